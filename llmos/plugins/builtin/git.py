"""What a git repository says of itself: `git_summary`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from llmos.errors import InputError, ToolError
from llmos.plugins.builtin.paths import count_text, existing_folder
from llmos.plugins.builtin.processes import clean_environment, run
from llmos.plugins.context import ToolContext
from llmos.plugins.marking import llm_tool
from llmos.trace.program import Effect

TIMEOUT_S = 60.0
MAX_OUTPUT_BYTES = 5_000_000
SHOWN = 5

# A repository is data; its own configuration could name programs for git to run. These win over it.
HARMLESS = (
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.pager=cat",
    "core.untrackedCache=false",
    "core.quotePath=false",
    "core.alternateRefsCommand=",
    "core.sshCommand=false",
    "diff.external=",
    "log.showSignature=false",
    "protocol.allow=never",
    "submodule.recurse=false",
    "status.submoduleSummary=false",
    "trace2.normalTarget=0",
    "trace2.eventTarget=0",
    "trace2.perfTarget=0",
)


@llm_tool(
    "git_summary",
    "Summarise a git repository: branch, commits, authors, last commit, tags, changed files. Changes nothing.",
    {"path": str},
    defaults={"path": "."},
    effect=Effect.READ,
    paths=("path",),
    idempotent=True,
    open_world=False,
    version="1",
)
async def git_summary(ctx: ToolContext, path: str) -> dict[str, Any]:
    folder = existing_folder(ctx, path)
    git = _Git(ctx, folder)
    root = ctx.resolve((await git("rev-parse", "--show-toplevel")).removesuffix("\n"))
    await git.disarm_filters()
    branch = (await git("symbolic-ref", "--quiet", "--short", "HEAD", allowed=(0, 1))).strip() or None
    born = bool((await git("rev-parse", "--quiet", "--verify", "HEAD", allowed=(0, 1))).strip())
    changed = _changed(await git("status", "--porcelain=v1", "-z", "--ignore-submodules=all", "--no-renames"))
    summary: dict[str, Any] = {
        "path": ctx.relative(root),
        "name": root.name,
        "branch": branch,
        "commits": int(await git("rev-list", "--count", "HEAD")) if born else 0,
        "authors": _authors(await git("shortlog", "-s", "-n", "HEAD")) if born else [],
        "last_commit": _commit(await git("log", "-1", f"--format={FORMAT}")) if born else None,
        "recent": [_commit(line) for line in (await git("log", f"-{SHOWN}", f"--format={FORMAT}")).splitlines()]
        if born
        else [],
        "tags": (await git("tag", "--list", "--sort=-creatordate")).split(),
        "changed": changed,
        "changed_count": len(changed),
    }
    return {**summary, "text": report(summary)}


FORMAT = "%H%x00%aN%x00%aI%x00%s"


class _Git:
    """Runs git on one folder without anything of the repository being executed."""

    def __init__(self, ctx: ToolContext, folder: Path) -> None:
        self._folder = folder
        self._settings = list(HARMLESS)
        self._env = {
            **{name: value for name, value in clean_environment(ctx).items() if not name.startswith("GIT_")},
            "LC_ALL": "C.UTF-8",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_CEILING_DIRECTORIES": str(ctx.workspace.resolve().parent),
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_PAGER": "cat",
        }

    async def __call__(self, *arguments: str, allowed: tuple[int, ...] = (0,)) -> str:
        options = [part for setting in self._settings for part in ("-c", setting)]
        done = await run(
            ["git", "--no-pager", *options, *arguments],
            cwd=self._folder,
            env=self._env,
            timeout_s=TIMEOUT_S,
            max_bytes=MAX_OUTPUT_BYTES,
        )
        if done.timed_out:
            raise ToolError(f"git {arguments[0]} was stopped after {TIMEOUT_S:.0f} s.")
        if done.status not in allowed:
            said = " ".join(done.stderr.split())[:400].removeprefix("fatal: ")
            raise InputError(f"git can't summarise this folder: {said or f'exit status {done.status}'}.")
        return done.stdout

    async def disarm_filters(self) -> None:
        """Switch off the content filters the repository's configuration names: `git status` may run them."""
        names = await self("config", "--name-only", "--get-regexp", r"^filter\..*", allowed=(0, 1))
        for name in {line.rpartition(".")[0] for line in names.splitlines()}:
            if "=" in name:
                raise ToolError(f"the repository has a filter with '=' in its name ({name}), which can't be disarmed.")
            self._settings += [f"{name}.clean=", f"{name}.smudge=", f"{name}.process=", f"{name}.required=false"]


def _authors(text: str) -> list[dict[str, Any]]:
    found = re.findall(r"^\s*(\d+)\t(.*)$", text, re.MULTILINE)
    return [{"name": name, "commits": int(count)} for count, name in found]


def _commit(text: str) -> dict[str, str]:
    names = ("hash", "author", "date", "subject")
    return dict(zip(names, text.rstrip("\n").split("\0", 3), strict=True))


def _changed(text: str) -> list[dict[str, str]]:
    entries = [entry for entry in text.split("\0") if entry]
    return [{"status": entry[:2].strip(), "path": entry[3:]} for entry in entries]


def report(summary: dict[str, Any]) -> str:
    """The summary as a person reads it."""
    where = f"on branch {summary['branch']}" if summary["branch"] else "on no branch"
    authors = ", ".join(f"{author['name']} ({author['commits']})" for author in summary["authors"][:SHOWN])
    more = len(summary["authors"]) - SHOWN
    lines = [
        f"{summary['name']}: {count_text(summary['commits'], 'commit')} {where}",
        f"authors: {authors}{f' and {more} more' if more > 0 else ''}" if authors else "",
        *[f"  {c['date'][:10]}  {c['hash'][:9]}  {c['subject']} ({c['author']})" for c in summary["recent"]],
        f"latest tags: {', '.join(summary['tags'][:SHOWN])}" if summary["tags"] else "",
        f"{count_text(summary['changed_count'], 'changed file')} in the working tree",
        *[f"  {change['status']:2}  {change['path']}" for change in summary["changed"][:20]],
    ]
    return "\n".join(line for line in lines if line)
