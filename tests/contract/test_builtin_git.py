"""git_summary with the real git, on friendly and on hostile repositories."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.contract.toolbox import Toolbox, toolbox


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toolbox:
    monkeypatch.setenv("HOME", str(tmp_path))
    return toolbox(tmp_path)


def git(folder: Path, *arguments: str, author: str = "Ann", date: str = "2024-03-01T12:00:00+00:00") -> None:
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder.parent),
        **{f"GIT_{role}_{part}": value for role in ("AUTHOR", "COMMITTER") for part, value in _who(author, date)},
    }
    subprocess.run(["git", *arguments], cwd=folder, env=env, check=True, capture_output=True)


def _who(author: str, date: str) -> list[tuple[str, str]]:
    return [("NAME", author), ("EMAIL", f"{author.lower()}@example.org"), ("DATE", date)]


def repository(box: Toolbox, name: str = "repo") -> Path:
    folder = box.workspace / name
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "-q", "-b", "main")
    for number, author in enumerate(("Ann", "Bo", "Ann"), 1):
        (folder / "a.txt").write_text(f"{number}\n")
        git(folder, "add", ".")
        git(folder, "commit", "-q", "-m", f"change {number}", author=author, date=f"2024-03-0{number}T12:00:00+00:00")
    git(folder, "tag", "v1")
    return folder


async def test_a_repository_is_summarised(box: Toolbox) -> None:
    folder = repository(box)
    (folder / "a.txt").write_text("other\n")
    (folder / "new file.txt").write_text("x")
    summary = await box.call("git_summary", path="repo")
    assert (summary["path"], summary["name"], summary["branch"]) == ("repo", "repo", "main")
    assert (summary["commits"], summary["tags"]) == (3, ["v1"])
    assert summary["authors"] == [{"name": "Ann", "commits": 2}, {"name": "Bo", "commits": 1}]
    last = summary["last_commit"]
    assert (last["author"], last["date"], last["subject"]) == ("Ann", "2024-03-03T12:00:00+00:00", "change 3")
    assert [commit["subject"] for commit in summary["recent"]] == ["change 3", "change 2", "change 1"]
    assert summary["changed"] == [{"status": "M", "path": "a.txt"}, {"status": "??", "path": "new file.txt"}]
    assert summary["changed_count"] == 2
    assert summary["text"].splitlines()[:2] == ["repo: 3 commits on branch main", "authors: Ann (2), Bo (1)"]


async def test_a_repository_without_commits_is_summarised(box: Toolbox) -> None:
    git(box.workspace, "init", "-q", "-b", "trunk")
    summary = await box.call("git_summary")
    assert (summary["branch"], summary["commits"], summary["last_commit"], summary["recent"]) == ("trunk", 0, None, [])


async def test_a_detached_head_is_on_no_branch(box: Toolbox) -> None:
    git(repository(box), "checkout", "-q", "--detach")
    summary = await box.call("git_summary", path="repo")
    assert summary["branch"] is None
    assert "on no branch" in summary["text"]


async def test_a_folder_that_is_no_repository_is_one_sentence(box: Toolbox, tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")  # around the workspace: not the workspace's
    message = await box.error("git_summary")
    assert "not a git repository" in message
    assert "\n" not in message


async def test_nothing_a_repository_names_is_executed(box: Toolbox, tmp_path: Path) -> None:
    folder = repository(box)
    trap = tmp_path / "trap.sh"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\ncat\n")
    trap.chmod(0o755)
    for key in (
        "core.fsmonitor",
        "core.pager",
        "core.sshCommand",
        "core.alternateRefsCommand",
        "diff.external",
        "gpg.program",
        "filter.evil.clean",
        "filter.evil.smudge",
        "filter.evil.process",
        "filter.Two.Words.clean",
    ):
        git(folder, "config", key, str(trap))
    git(folder, "config", "core.hooksPath", str(tmp_path))
    git(folder, "config", "log.showSignature", "true")
    (folder / ".gitattributes").write_text("*.txt filter=evil\n*.md filter=Two.Words\n")
    (folder / "a.txt").write_text("4\n")
    for hook in ("post-index-change", "fsmonitor-watchman"):
        (folder / ".git/hooks" / hook).write_text(trap.read_text())
        (folder / ".git/hooks" / hook).chmod(0o755)
    summary = await box.call("git_summary", path="repo")
    assert summary["commits"] == 3
    assert not (tmp_path / "sprung").exists()


async def test_a_summary_changes_nothing(box: Toolbox) -> None:
    folder = repository(box)
    os.utime(folder / "a.txt", (0, 0))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    await box.call("git_summary", path="repo")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


async def test_a_work_tree_elsewhere_is_not_looked_at(box: Toolbox, tmp_path: Path) -> None:
    folder = repository(box)
    (tmp_path / "outside").mkdir()
    git(folder, "config", "core.worktree", str(tmp_path / "outside"))
    assert await box.error("git_summary", path="repo")


async def test_variables_of_git_do_not_lead_it_astray(box: Toolbox, tmp_path: Path) -> None:
    repository(box)
    box.services["env"] = {**os.environ, "GIT_DIR": str(tmp_path / "nowhere"), "GIT_PAGER": "false"}
    assert (await box.call("git_summary", path="repo"))["commits"] == 3
