"""What a shell command is taken to do: only what its words say for certain, and the worst of everything else."""

from __future__ import annotations

import gzip
import json
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from llmos.plugins.builtin.bash_effect import judge
from llmos.plugins.builtin.bash_syntax import NotReadError, read_script
from llmos.plugins.context import ToolContext
from llmos.trace.program import Effect

NL2BASH = Path(__file__).parents[2] / "benchmarks" / "data" / "nl2bash.jsonl.gz"


@pytest.fixture
def ctx(tmp_path: Path) -> ToolContext:
    workspace = tmp_path / "work"
    (workspace / "data" / "deep").mkdir(parents=True)
    (workspace / "memory").mkdir()
    (workspace / "a.csv").write_text("x,y\n1,2\n")
    (workspace / "data" / "b.csv").write_text("x\n")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_text("secret")
    (workspace / "out").symlink_to(tmp_path / "outside")
    (workspace / "link.txt").symlink_to(tmp_path / "outside" / "secret.txt")
    return ToolContext(workspace=workspace, denied=(workspace / "memory",), env={"PATH": "/usr/bin:/bin"})


READS = [
    "ls",
    "ls -la data",
    "cat a.csv",
    "cat a.csv data/b.csv | sort -rn -k2,2 | uniq -c | head -5",
    "grep -rn --include='*.py' TODO .",
    "grep -i 'a b' a.csv | wc -l",
    "find . -type f -name '*.csv' ! -name 'b*' -mtime -7",
    r"find data \( -name a -o -name b \) -print",
    "sed -n '1,5p' a.csv",
    "sed -e 's/a/b/g; s,x,y,' a.csv",
    "awk -F, '{print $1}' a.csv",
    "head -n 3 a.csv && tail -2 a.csv || true",
    "sort < a.csv 2>/dev/null",
    "echo 'rm -rf /'",
    'echo "it\'s > fine"',
    "printf '%s\\n' hello",
    "date +%F",
    "LC_ALL=C sort a.csv",
    "cut -d, -f1 a.csv; pwd",
    "diff a.csv data/b.csv",
    "test -f a.csv && cat a.csv",
    "cat *.csv",
    "du -sh data",
    "command -v python3",
    "cat a.csv \\\n  data/b.csv",
]


@pytest.mark.parametrize("command", READS)
def test_these_only_read(ctx: ToolContext, command: str) -> None:
    assert judge(ctx, command).effect is Effect.READ


WRITES = [
    ("sort a.csv > sorted.csv", ["sorted.csv"]),
    ("echo hi >> notes/today.txt", ["notes/today.txt"]),
    ("mkdir -p x/y && touch x/y/z", ["x/y", "x/y/z"]),
    ("cp a.csv copy.csv", ["copy.csv"]),
    ("cp a.csv data", ["data", "data/a.csv"]),
    ("mv a.csv b.csv", ["a.csv", "b.csv"]),
    ("rm -f a.csv 'data/b.csv'", ["a.csv", "data/b.csv"]),
    ("rm -r data", ["data"]),
    ("cat a.csv | tee one.txt two.txt", ["one.txt", "two.txt"]),
    ("cat nothing 2> err.txt", ["err.txt"]),
    ("cp -r data fresh", ["fresh"]),
]


@pytest.mark.parametrize(("command", "targets"), WRITES)
def test_these_write_what_they_name_inside_the_workspace(ctx: ToolContext, command: str, targets: list[str]) -> None:
    found = judge(ctx, command)
    assert found.effect is Effect.WRITE
    assert [touch.value for touch in found.touches if touch.effect is Effect.WRITE] == targets


LOOK_HARMLESS = [
    # other programs inside
    "find . -exec rm {} \\;",
    "find . -name '*.tmp' -delete",
    "find . -fprint list.txt",
    "find . -okdir cat {} +",
    "ls $(rm a.csv)",
    "ls `rm a.csv`",
    'echo "$(rm a.csv)"',
    "cat <(rm a.csv)",
    "cat a.csv > >(sh)",
    "ls | xargs rm",
    "env rm a.csv",
    "env -S 'rm a.csv'",
    "nice rm a.csv",
    "time rm a.csv",
    "command rm a.csv",
    "exec rm a.csv",
    "eval 'rm a.csv'",
    "source a.csv",
    ". a.csv",
    "bash -c 'rm a.csv'",
    "cat a.csv | sh",
    "cat a.csv | python3 -",
    "timeout 5 rm a.csv",
    "watch ls",
    # options that write or run
    "sort -o a.csv a.csv",
    "sort a.csv -oa.csv",
    "sort --output=a.csv a.csv",
    "sort --outp=a.csv a.csv",
    "sort --compress-program=sh a.csv",
    "uniq a.csv out.csv",
    "sed -i s/a/b/ a.csv",
    "sed -n -i s/a/b/ a.csv",
    "sed --in-place s/a/b/ a.csv",
    "sed 's/a/b/w out.txt' a.csv",
    "sed 's/a/rm x/e' a.csv",
    "sed '1e rm a.csv' a.csv",
    "sed 'w out.txt' a.csv",
    "sed -f script a.csv",
    "sed 's/[/]/w x/;p' a.csv",
    "awk 'BEGIN{system(\"rm a.csv\")}'",
    "awk '{print > \"out.txt\"}' a.csv",
    "awk '{print | \"sh\"}' a.csv",
    "awk '\"rm a.csv\" | getline' a.csv",
    'awk \'BEGIN{f="system"; @f("rm a.csv")}\'',
    "awk -f program.awk a.csv",
    "awk -i inplace '{print}' a.csv",
    "tar -xf a.tar --to-command=sh",
    "tar -tf host:a.tar",
    "git -c core.pager='sh -c rm' log",
    "git log --output=a.csv",
    "git grep -O x",
    "git --exec-path=. log",
    "git diff --no-index /etc/passwd a.csv",
    "date -s 2020-01-01",
    "date 010100002020",
    "hostname evil",
    "split a.csv",
    "printf -v PATH x",
    "test -v 'a[$(rm a.csv)]'",
    "tail -f a.csv",
    "grep -R x .",
    "diff -r . out",
    "less a.csv",
    "vim a.csv",
    # the shell's own ways
    "PATH=.:$PATH ls",
    "PATH=. ls",
    "LD_PRELOAD=./x.so ls",
    "BASH_ENV=x bash",
    "ls() { rm a.csv; }; ls",
    "function ls { rm a.csv; }; ls",
    "alias ls='rm a.csv'",
    "cd / && ls",
    "(ls)",
    "{ ls; }",
    "ls &",
    "! ls",
    "if true; then ls; fi",
    "for f in a; do ls; done",
    "x=1",
    "export PATH=.",
    "cat <<E\nhi\nE",
    "cat <<< hi",
    "cat < /dev/tcp/example.com/80",
    "echo hi > /dev/tcp/example.com/80",
    "ls $HOME",
    "cat ~/secret.txt",
    "cat ${x:=y}",
    "echo $((x=1))",
    "cat {a,b}.csv",
    "cat x=~/secret.txt",
    "cat x:~/secret.txt",
    "cat 'x'~/secret.txt",
    "sort *.csv",
    "./ls",
    "data/tool a.csv",
    "ls |& cat",
    "echo $'\\x72m'",
    "trap 'rm a.csv' EXIT",
    "set -o noclobber",
    "unknown-program",
    "ls\u00a0-la",
    "ls \r rm",
    "ls 'unclosed",
    "",
    "   ",
    "# nothing",
    ">out.txt",
    # writes that leave the workspace, or change what runs
    "echo hi > ../x",
    "echo hi > /tmp/x",
    "echo hi > ~/x",
    "echo hi > out/x",
    "echo hi > link.txt",
    "cp a.csv out",
    "cp a.csv out/",
    "mv out elsewhere && echo hi > elsewhere/x",
    "mv data e | tee e/x",
    "cp -r out copy; echo hi > copy/x",
    "cp -a link.txt l; echo hi > l",
    "rm -rf .",
    "rm -rf ..",
    "rm -rf /",
    "rm *.csv",
    "rm -rf memory",
    "echo hi > memory/x",
    "touch data/../../x",
    "mkdir -m 4777 x",
    "ln -s /etc x",
    "chmod +x a.csv",
    "echo x > .git/config",
    "echo x > .GIT/hooks/post-checkout",
    "tee -- ../x",
    "cp -t .. a.csv",
    "cp --target-directory=.. a.csv",
    "touch -r a.csv x",
    "dd if=a.csv of=b.csv",
    "curl https://example.com",
    "echo hi >& all.txt",
    "echo hi <> a.csv",
]


@pytest.mark.parametrize("command", LOOK_HARMLESS)
def test_these_are_not_known_to_be_harmless(ctx: ToolContext, command: str) -> None:
    assert judge(ctx, command).effect is Effect.UNKNOWN


def test_the_links_that_a_pattern_matches_are_touched_by_name(ctx: ToolContext) -> None:
    found = judge(ctx, "cat *.txt")
    assert [(touch.value, touch.recursive) for touch in found.touches] == [(".", True), ("link.txt", False)]


def test_what_is_read_outside_is_named(ctx: ToolContext) -> None:
    assert [touch.value for touch in judge(ctx, "cat /etc/hostname < ../x").touches] == ["/etc/hostname", "../x"]


def test_a_command_found_inside_the_workspace_is_not_the_systems(ctx: ToolContext) -> None:
    tool = ctx.workspace / "bin" / "ls"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\nrm -rf .\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    for path in (f"{tool.parent}:/usr/bin:/bin", "bin:/usr/bin", ":/usr/bin"):
        own = ToolContext(workspace=ctx.workspace, env={"PATH": path})
        assert judge(own, "ls").effect is Effect.UNKNOWN, path
        assert judge(own, "echo hi").effect is Effect.READ


@pytest.mark.skipif(shutil.which("git") is None, reason="no git")
def test_git_only_reads_where_the_repository_names_no_program(ctx: ToolContext) -> None:
    assert judge(ctx, "git log --oneline").effect is Effect.UNKNOWN
    subprocess.run(["git", "init", "-q", "--template=", str(ctx.workspace)], check=True)
    config = ctx.workspace / ".git" / "config"
    plain = config.read_text()
    for command in ("git log --oneline -5", "git status --short", "git diff HEAD~1 -- a.csv", "git show --stat"):
        assert judge(ctx, command).effect is Effect.READ, command
    assert judge(ctx, "git commit -m x").effect is Effect.UNKNOWN
    for danger in ("[core]\n\tfsmonitor = ./x\n", "[diff]\n\texternal = ./x\n", "[INCLUDE]\n\tpath = ../x\n"):
        config.write_text(plain + danger)
        assert judge(ctx, "git status").effect is Effect.UNKNOWN, danger
    config.write_text(plain)
    (ctx.workspace / ".git" / "hooks").mkdir()
    (ctx.workspace / ".git" / "hooks" / "post-index-change").write_text("#!/bin/sh\n")
    assert judge(ctx, "git status").effect is Effect.UNKNOWN


def test_the_words_are_those_that_bash_makes_of_real_commands(tmp_path: Path) -> None:
    with gzip.open(NL2BASH, "rt", encoding="utf-8") as stream:
        commands = sorted({json.loads(line)["calls"][0]["args"]["command"] for line in stream})
    compared = 0
    for command in commands[::8]:
        if set(command) & set("\n|;&<>"):
            continue
        try:
            (simple,) = read_script(command)
        except NotReadError:
            continue
        if simple.assignments:
            continue
        done = subprocess.run(
            ["bash", "-c", f"set -f; printf '%s\\0' {command}"], cwd=tmp_path, capture_output=True, check=True
        )
        assert [word.text for word in simple.words] == done.stdout.decode().split("\0")[:-1], command
        compared += 1
    assert compared > 100


def test_the_parser_is_only_loaded_for_a_shell_command() -> None:
    code = (
        "import sys\nfrom llmos.plugins.loader import PluginLoader\nfrom llmos.plugins.registry import ToolRegistry\n"
        "PluginLoader(ToolRegistry()).load()\nassert 'tree_sitter' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
