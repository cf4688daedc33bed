#!/usr/bin/env bash
# build/ci: report.html; for a pull request also comment.md and DVC's interactive plots, against the base.
# In: EVENT (the name of GitHub's event), PICTURES (where files of a commit can be seen), GITHUB_STEP_SUMMARY (a file).
# Run from the repository root with .venv built; about 15 s.
set -euo pipefail
export PATH="$PWD/.venv/bin:$PATH" DVC_NO_ANALYTICS=1

rm -rf build/ci
mkdir -p build/ci
if [ "${EVENT:-}" = pull_request ]; then
    base=$(git rev-parse 'HEAD^1') # HEAD is the merge that GitHub tries out; its first parent is the base
    python -m src.report --against "$base" --output build/ci/report.html
    python -m src.report --against "$base" --comment --pictures "${PICTURES:-}" > build/ci/comment.md
    dvc plots diff "$base" --out build/ci/plots_diff > /dev/null
    if [ -n "${GITHUB_RUN_ID:-}" ]; then
        address="$GITHUB_SERVER_URL/$GITHUB_REPOSITORY/actions/runs/$GITHUB_RUN_ID#artifacts"
        printf '\nPage and interactive plots: artifact `report` of [this run](%s).\n' "$address" >> build/ci/comment.md
    fi
    cat build/ci/comment.md >> "${GITHUB_STEP_SUMMARY:-/dev/null}"
else
    python -m src.report --output build/ci/report.html
fi
