"""llmos.yaml as nobody should write it: a sentence that names the place, or settings that hold, never a traceback."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.bench import Bench, fuzz
from tests.fuzz.mutating import INSERTED, bomb, texts
from tests.fuzz.test_fuzz_goals import COPY

FULL = """\
battery: {initial_usd: 10.0}
learner: {name: claude, max_usd_per_run: 2.0, first_estimate_usd: 0.5, max_turns: 50, timeout_s: 900,
  max_repeats: 3, guided_max_usd: 0.5, guided_max_turns: 20, base_url: "http://127.0.0.1:9"}
models: {learner: [sonnet, "own:m"], guided: haiku, judge: haiku, summary: haiku, classes: {meta: {learner: opus}}}
servers: {own: {base_url: "http://127.0.0.1:9/v1", api_key_env: SOME_KEY}}
prices: {my-model: {input_usd_per_mtok: 0.5, output_usd_per_mtok: 1.5, cached_input_usd_per_mtok: 0.05}}
matching: {max_wrong: {pure: 0.01, read: 0.01, write: 0.001}}
judge: {max_usd: 0.02, timeout_s: 60}
reliability: {half_life_days: 30, max_failures: 3}
audit_rate: 0.0
sandbox: auto
sandbox_limits: {cpu_s: 600, wall_s: 600, memory_bytes: 4000000000, max_processes: 512, max_open_files: 1024,
  file_bytes: 4000000000, tmp_bytes: 1000000000}
sandbox_network: [bash]
sandbox_readable: [~/notes.txt, /usr/share]
sandbox_writable: [~/.cache/pip, "~/no-such-folder"]
frozen: false
skip_unchanged: true
proof: {enabled: true, max_files: 5000, max_bytes: 256000000, timeout_s: 60}
journal: {max_file_bytes: 100000000, max_files: 5000, max_workspace_bytes: 256000000, max_bytes: 2000000000,
  keep_days: 30}
permissions:
  principal: ci
  rules:
  - {deny: "*", path: "**/.env"}
  - {allow: read, path: /data/**, effect: read}
  - {ask: http_get, host: "*.example.com"}
  - {allow: bash, effect: [write, external, unknown]}
  - {allow: edit, tainted: true}
  roles: {reporter: [{allow: write, effect: write}]}
  principals: {ci: [reporter]}
memory: {embedding_model: all-MiniLM-L6-v2}
scheduler: {max_concurrent: 4}
mcp_servers:
  git: {command: no-such-server, args: [--repository, .], env: {GIT_AUTHOR_NAME: "${USER}"}, read_only: [git_status],
    effects: {git_commit: write}, network: true, readable: [~/notes.txt], writable: [~/x], sandboxed: false}
  web: {url: "http://127.0.0.1:9/mcp", headers: {Authorization: "Bearer ${TOKEN}"}}
secrets: [TOKEN]
"""
COMMANDS: list[tuple[str, ...]] = [
    ("Calculate 2 + 3",),
    ("--yes", "--mode", "follow", "Convert data.csv to out.json"),
    ("--yes", "--mode", "follow", "Rename files in sub/ replacing 'b' with 'c'"),
    ("permissions", "show"),
    ("permissions", "check", "write", "file_path=a.txt", "content=x"),
    ("battery", "show"),
    ("journal", "prune"),
    ("doctor",),
    ("explain", "Count lines in a.txt"),
    ("--mode", "follow", "--yes", "Copy a.txt over b.txt"),
]
ENV = {"TOKEN": "a-secret-that-is-long"}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    bench = Bench(tmp_path_factory.mktemp("fuzz") / "bench")
    bench.learn(COPY)
    return bench


def run(bench: Bench, text: str, command: tuple[str, ...]) -> int:
    bench.renew()
    (bench.home / "llmos.yaml").write_text(text, encoding="utf-8", errors="surrogatepass")
    done = bench.check(*command, env=ENV)
    assert ENV["TOKEN"] not in done.out + done.err
    return done.exit_code


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_the_settings_that_are_mutated_hold(bench: Bench, command: tuple[str, ...]) -> None:
    assert run(bench, FULL, command) == 0


SEED: Any = yaml.safe_load(FULL)
SECTIONS: list[Any] = [{key: value} for key, value in SEED.items()]


@fuzz(60)
@given(text=texts([SEED, *SECTIONS]), command=st.sampled_from([one for one in COMMANDS if one != ("doctor",)]))
def test_any_settings_are_refused_or_hold(bench: Bench, text: str, command: tuple[str, ...]) -> None:
    run(bench, text, command)


@pytest.mark.parametrize("inserted", INSERTED)
@pytest.mark.parametrize("key", ["secrets", "frozen"])
def test_what_yaml_can_do_beyond_data_means_nothing_in_settings(bench: Bench, key: str, inserted: str) -> None:
    assert run(bench, f"{key}: {inserted}\n", ("battery", "show")) in (0, 2)


@pytest.mark.parametrize("key", ["secrets", "permissions", "audit_rate", "sandbox", "mcp_servers", "sandbox_readable"])
def test_anchors_that_stand_for_a_billion_values_are_refused_at_once(bench: Bench, key: str) -> None:
    for text in (f"{bomb()}{key}: *a29\n", f"{key}:\n  - {bomb().replace(chr(10), chr(10) + '    ')}\n"):
        assert run(bench, text, ("battery", "show")) == 2
    nested = "[&a [x, x, x, x, x, x, x, x, x, x]]"
    for n in range(9):
        nested = f"[&{'bcdefghij'[n]} [{', '.join(['*' + ('abcdefghi'[n])] * 9)}], {nested}]"
    assert run(bench, f"{key}: {nested}\n", ("battery", "show")) == 2
