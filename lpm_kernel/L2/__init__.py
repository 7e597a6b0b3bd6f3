"""The stages. Each module is `StageConfig` + `run(config, *, <paths>)`, and knows neither workspace nor CLI."""
