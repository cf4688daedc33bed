"""One HTML page about the working tree: results, changes, data, plots, model card.

    python -m src.report                      build/report.html; also `make report`; about 5 s
    python -m src.report --against HEAD~3     differences to that commit instead of the last one
    python -m src.report --faces              with the pictures of people: keep the page to yourself

The page holds its pictures and styles, so it works offline and can be mailed; it loads nothing. Needs no data, no cache
and no TensorFlow. Prints the path of the page. What is missing is named on the page, with the way to get it.
"""

import argparse
from pathlib import Path

from src.errors import UserError, run_program
from src.storage import replace_file

OUTPUT = Path("build/report.html")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m src.report", description="One page about the working tree.")
    parser.add_argument("--against", metavar="COMMIT", help="compare with this commit; default: the last one")
    parser.add_argument("--faces", action="store_true", help="include plots/faces/: pictures of people")
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="FILE", help=f"default: {OUTPUT}")
    arguments = parser.parse_args()
    # Imported here, so that --help and a mistyped option answer at once.
    from src.report.contents import read_contents
    from src.report.rendering import render_page

    if arguments.output.suffix != ".html" or arguments.output.is_dir():
        raise UserError(f"--output {arguments.output}: name a file that ends in .html, such as report.html.")
    page = render_page(read_contents(Path(), against=arguments.against, faces=arguments.faces))
    with replace_file(arguments.output) as partial:
        partial.write_text(page, encoding="utf-8")
    print(f"{arguments.output} ({arguments.output.stat().st_size / 1e6:.1f} MB), works offline")


if __name__ == "__main__":
    run_program(main)
