#!/usr/bin/env bash
# build/ci: report.html; for a pull request also comment.md and DVC's interactive plots, against the base.
# In: EVENT (the name of GitHub's event), PICTURES (where files of a commit can be seen), GITHUB_STEP_SUMMARY (a file).
# Run from the repository root with .venv built; about 15 s.
set -euo pipefail
export PATH="$PWD/.venv/bin:$PATH" DVC_NO_ANALYTICS=1

# What differs, as DVC says it, and the plots before and now. Values come with the pull request, so all that could make a
# link, a picture, a mention or HTML of them is taken out.
comment() {
    local what path before
    echo "### Model and data against the base"
    for what in params metrics; do
        printf '\n**%s**\n\n' "$what"
        dvc "$what" diff --md "$1" | LC_ALL=C sed -E 's~[^[:alnum:]_[:space:]|.,+%/()-]|www\.~ ~Ig'
    done
    if [ -n "${PICTURES:-}" ]; then
        printf '\n**plots**\n\n| before | now |\n| --- | --- |\n'
        for path in $(git diff --name-only --diff-filter=d "$1" -- 'plots/*.png' | grep -xE '[a-z0-9_/]+\.png'); do
            before="![before]($PICTURES/$1/$path)"
            git cat-file -e "$1:$path" 2> /dev/null || before=absent
            echo "| $before | ![$path]($PICTURES/$(git rev-parse HEAD)/$path) |"
        done
    fi
}

rm -rf build/ci
mkdir -p build/ci
if [ "${EVENT:-}" = pull_request ]; then
    base=$(git rev-parse 'HEAD^1') # HEAD is the merge that GitHub tries out; its first parent is the base
    python -m src.report --against "$base" --output build/ci/report.html
    comment "$base" > build/ci/comment.md
    truncate --size '<60000' build/ci/comment.md # GitHub takes 65,536 characters
    dvc plots diff "$base" --out build/ci/plots_diff > /dev/null
    if [ -n "${GITHUB_RUN_ID:-}" ]; then
        address="$GITHUB_SERVER_URL/$GITHUB_REPOSITORY/actions/runs/$GITHUB_RUN_ID#artifacts"
        printf '\nPage and interactive plots: artifact `report` of [this run](%s).\n' "$address" >> build/ci/comment.md
    fi
    cat build/ci/comment.md >> "${GITHUB_STEP_SUMMARY:-/dev/null}"
else
    python -m src.report --output build/ci/report.html
fi
