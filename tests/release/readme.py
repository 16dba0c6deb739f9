"""Runs what README.md says can be run, with the interpreter that runs this and the package that it finds.

usage: PYTHONPATH=tests PYTHON -m release.readme [LIMIT_S]        LIMIT_S: seconds that one command may take
"""

import sys
import tempfile
from pathlib import Path

import doc_examples
import loadgen


def main(arguments: list[str]) -> int:
    """Run all; return the exit status."""
    if arguments:
        doc_examples.LIMIT_S = int(arguments[0])
    print(f"  with {loadgen.__file__}", flush=True)
    blocks = [block for block in doc_examples.blocks() if block.page.name == "README.md" and block.is_run]
    failed = 0
    for block in blocks:
        with tempfile.TemporaryDirectory(prefix="loadgen-readme-") as folder:
            try:
                doc_examples.run_block(block, Path(folder))
            except AssertionError as error:
                failed += 1
                print(f"  FAILED {block.name}\n{error}", flush=True)
            else:
                told = doc_examples.commands(block.text) or ["Python:", *block.text.strip().splitlines()[:1]]
                print(f"  ok     {block.name}  {' '.join(told)[:90]}", flush=True)
    print(f"  {len(blocks)} blocks of the README, {failed} failed")
    return 0 if blocks and not failed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
