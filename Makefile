# The scripts, for those who expect make.
.PHONY: setup demo test lint clean
setup:
	bash scripts/setup
demo:
	bash lpm_kernel/L2/dpo/dpo_pipeline.sh --demo
test:
	bash scripts/test
lint:
	bash scripts/lint
clean:
	bash scripts/clean
