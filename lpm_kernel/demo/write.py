"""Everything that the demo starts from, in one call."""

from pathlib import Path

from lpm_kernel.demo.base_model import write_base_model
from lpm_kernel.demo.owner import write_owner
from lpm_kernel.models.loading import quiet_libraries
from lpm_kernel.owner.items import ItemConfig, read_items


def write_demo(
    merged_path: Path, bio_path: Path, base_model_path: Path, *, language: str, config: ItemConfig, seed: int
) -> None:
    """Owner's data, bio and untrained base model; the vocabulary is made from the rendered rows."""
    quiet_libraries()
    write_owner(merged_path, bio_path, language)
    rows, _ = read_items(merged_path, config)
    texts = [text for row in rows for text in (*(message.content for message in row.messages), row.target)]
    write_base_model(base_model_path, texts, seed)
