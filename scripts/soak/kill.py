#!/usr/bin/env python3
"""Kill `lpm pipeline` with SIGKILL at random moments of every step until it is done, and hold it to its promises.

    .venv/bin/python scripts/soak/kill.py --kills 30 --seed 1

One chain runs undisturbed. Others are killed, each time at a moment drawn over the length of a step (or of the
start), and begun again until they are complete; a fresh workspace follows until all kills are spent.

After each run: every artifact fits its manifest or is absent; no record of a journal is gone or written again; no
more is asked again than was asked and not yet journaled; no child lives. After each complete chain: nothing
temporary lies about, and what the chain promises to repeat is, byte for byte, what the undisturbed one made.
Exit code 1 when one of these is violated; the workspaces are then kept.
"""

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

# ruff: noqa: E402
from laws import Law, Run, check_chain, check_run
from tables import as_json, as_table
from tiny_chain import START, STEP_NAMES, Place, placed, write_owner
