"""Settings: where a value is taken from, and what is said about one that can't be used."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import llmos
from llmos.errors import SettingsError
from llmos.settings import Settings, load_settings, plain_environment, wants_color
from llmos.settings.places import find_home
from llmos.settings.schema import EFFECTS, SCHEMA
from llmos.trace.program import Effect

EXAMPLE = Path(llmos.__file__).parent.parent / "llmos.yaml.example"

Load = Callable[..., Settings]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads settings of an empty home, in an empty environment, away from any checkout."""
    (tmp_path / "nowhere").mkdir()

    def load(text: str = "", **given: Any) -> Settings:
        home = given.setdefault("home", tmp_path / "home")
        if text:
            home.mkdir(exist_ok=True)
            (home / "llmos.yaml").write_text(text, encoding="utf-8")
        return load_settings(**{"environ": {}, "workspace": tmp_path, "checkout": tmp_path / "nowhere", **given})

    return load


# ------------------------------------------------------------------------------------------------------- places


def test_the_home_is_the_argument_before_the_variable_before_the_checkout(tmp_path: Path) -> None:
    environ = {"LLMOS_HOME": str(tmp_path / "b")}
    checkout = tmp_path / "c"
    assert load_settings(home=tmp_path / "a", environ=environ, checkout=checkout).home == tmp_path / "a"
    assert load_settings(environ=environ, checkout=checkout).home == tmp_path / "b"
    assert load_settings(environ={}, checkout=checkout).home == checkout / "workspace"


def test_without_a_checkout_the_home_is_the_users_data_folder() -> None:
    import platformdirs

    assert find_home(None, env={}, checkout=None) == platformdirs.user_data_path("llmos")


def test_memory_lies_in_the_home(load: Load, tmp_path: Path) -> None:
    settings = load()
    assert settings.memory == tmp_path / "home" / "memory"
    assert settings.database == tmp_path / "home" / "memory" / "llmos.duckdb"


def test_loading_creates_nothing(load: Load, tmp_path: Path) -> None:
    load()
    assert not (tmp_path / "home").exists()


def test_relative_paths_count_from_the_current_folder(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load(home=Path("h"), workspace=Path("nowhere/.."))
    assert (settings.home, settings.workspace) == (tmp_path / "h", tmp_path)
    assert load_settings(environ={}, home=Path("h")).workspace == tmp_path


def test_a_home_that_is_a_file_is_refused(load: Load, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="is a file; name a folder with --home"):
        load(home=tmp_path / "file")


@pytest.mark.parametrize("name", ["missing", "file"])
def test_a_workspace_that_is_no_folder_is_refused(load: Load, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=f"workspace .*{name} is not a folder"):
        load(workspace=tmp_path / name)


def test_plugins_come_from_the_checkout_then_the_home_then_the_options(load: Load, tmp_path: Path) -> None:
    folders = [tmp_path / "nowhere" / "plugins", tmp_path / "home" / "plugins", tmp_path / "z", tmp_path / "a"]
    assert load().plugin_dirs == ()
    for folder in folders:
        folder.mkdir(parents=True)
    assert load(plugins=[tmp_path / "z", tmp_path / "a", tmp_path / "z"]).plugin_dirs == tuple(folders)


def test_a_named_plugins_folder_must_exist(load: Load, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"plugins folder .*nope does not exist"):
        load(plugins=[tmp_path / "nope"])


# --------------------------------------------------------------------------------------------------- precedence


def test_the_defaults(load: Load) -> None:
    settings = load()
    assert (settings.budget_usd, settings.initial_usd, settings.embedding_model) == (None, 10.0, "all-MiniLM-L6-v2")
    learner = settings.learner
    assert (learner.name, learner.max_usd_per_run, learner.first_estimate_usd) == ("claude", 2.0, 0.5)
    assert settings.models.wanted("learner") == settings.models.wanted("summary") == ("sonnet",)
    assert (learner.max_turns, learner.timeout_s, learner.max_repeats, learner.base_url) == (50, 900.0, 3, None)
    assert settings.scheduler.max_concurrent == 4
    assert (settings.daemon.enabled, settings.daemon.idle_s) == (True, 900.0)
    proof = settings.proof
    assert (proof.enabled, proof.max_files, proof.max_bytes, proof.timeout_s) == (True, 5_000, 256_000_000, 60.0)
    assert (dict(settings.mcp_servers), dict(settings.prices), settings.secrets) == ({}, {}, ())
    kept = settings.retention
    assert (kept.runs_days, kept.max_runs, kept.max_goals, kept.savings_days) == (90.0, 10_000, 100_000, 90.0)
    assert (kept.audit_days, kept.damaged_days, kept.backups, kept.history_lines) == (None, None, 4, 10_000)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("retention: {runs_days: 0}", "retention.runs_days must be a number of days above 0"),
        ("retention: {max_runs: -1}", "retention.max_runs must be a whole number, 1 or more"),
        ("retention: {audit_days: never}", "retention.audit_days must be a number of days above 0"),
        ("retention: {days: 5}", "there is no key retention.days; allowed here: runs_days, max_runs"),
    ],
)
def test_a_retention_that_can_not_be_is_refused(load: Load, text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        load(text)


def test_an_empty_retention_key_is_its_default(load: Load) -> None:
    assert load("retention: {audit_days: , runs_days: 7}").retention.audit_days is None
    assert load("retention: {audit_days: 365}").retention.audit_days == 365.0


def test_the_example_file_holds_the_defaults(load: Load) -> None:
    settings = load(EXAMPLE.read_text(encoding="utf-8"))
    assert settings == load(home=settings.home)


def test_the_example_file_names_every_key(load: Load) -> None:
    named = set(yaml.safe_load(EXAMPLE.read_text(encoding="utf-8")))
    assert named == set(SCHEMA.keys)
    uncommented = "\n".join(
        line.replace("#  ", "  ", 1) if line.startswith("#  ") else line
        for line in EXAMPLE.read_text(encoding="utf-8").splitlines()
    )
    settings = load(uncommented, environ={"USER": "ada", "SEARCH_TOKEN": "t"})
    assert settings.mcp_servers["git"].env == {"GIT_AUTHOR_NAME": "ada"}
    assert settings.mcp_servers["search"].headers == {"Authorization": "Bearer t"}
    assert settings.prices["my-model"].cached_input_usd_per_mtok == 0.05
    assert settings.secrets == ("GITHUB_TOKEN",)


def test_the_model_is_the_option_before_the_variable_before_the_file(load: Load) -> None:
    file = "models: {learner: opus}"
    environ = {"LLMOS_MODEL": "haiku"}
    assert load(file).models.learner == ("opus",)
    assert load(file, environ=environ).models.learner == ("haiku",)
    assert load(file, environ=environ, model="sonnet").models.learner == ("sonnet",)


def test_the_budget_is_the_option_before_the_variable(load: Load) -> None:
    environ = {"LLMOS_BUDGET_USD": "0.25"}
    assert load(environ=environ).budget_usd == 0.25
    assert load(environ=environ, budget_usd=1).budget_usd == 1.0
    assert load(budget_usd=0).budget_usd == 0.0


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_a_budget_that_is_no_amount_is_refused(load: Load, value: float) -> None:
    with pytest.raises(SettingsError, match="--budget must be a number of dollars, 0 or more"):
        load(budget_usd=value)


@pytest.mark.parametrize("text", ["-1", "nan", "ten"])
def test_a_budget_variable_that_is_no_amount_is_refused(load: Load, text: str) -> None:
    with pytest.raises(SettingsError, match="LLMOS_BUDGET_USD must be a number of dollars, 0 or more"):
        load(environ={"LLMOS_BUDGET_USD": text})


def test_an_empty_model_is_refused(load: Load) -> None:
    with pytest.raises(SettingsError, match="--model must be the name of a model"):
        load(model=" ")


def test_a_model_with_a_provider_is_asked_with_that_providers_key(load: Load) -> None:
    settings = load(model="openai:gpt-5", environ={"OPENAI_API_KEY": "k"})
    assert settings.models.learner == ("openai:gpt-5",)
    assert settings.is_elsewhere("openai:gpt-5") and not settings.is_elsewhere("sonnet")
    server, name = settings.server_of("openai:gpt-5")
    assert (server.base_url, server.api_key_env, server.api_key, name) == (None, "OPENAI_API_KEY", "k", "gpt-5")


def test_a_bedrock_name_is_claudes_own(load: Load) -> None:
    assert not load().is_elsewhere("us.anthropic.claude-sonnet-4-5-20250929-v1:0")


def test_a_server_of_ones_own_gets_only_the_key_that_is_named_for_it(load: Load) -> None:
    text = "servers: {local: {base_url: 'http://localhost:5001/v1/'%s}}"
    environ = {"OPENAI_API_KEY": "o", "LOCAL_KEY": "l"}
    server, name = load(text % "", environ=environ).server_of("local:qwen3")
    assert (server.base_url, server.api_key, name) == ("http://localhost:5001/v1", None, "qwen3")
    assert load(text % ", api_key_env: LOCAL_KEY", environ=environ).server_of("local:qwen3")[0].api_key == "l"


def test_a_server_may_only_name_another_key_of_a_provider(load: Load) -> None:
    settings = load("servers: {openai: {api_key_env: WORK}}", environ={"OPENAI_API_KEY": "o", "WORK": "w"})
    assert settings.server_of("openai:gpt-5")[0].api_key == "w"


def test_each_task_has_its_models_and_a_class_has_others(load: Load) -> None:
    models = load(
        "models: {learner: [sonnet, openai:gpt-5], guided: haiku, judge: haiku, classes: {specialist: {learner: opus}}}"
    ).models
    assert models.wanted("learner") == ("sonnet", "openai:gpt-5")
    assert models.wanted("learner", "specialist") == ("opus",)
    assert models.wanted("guided", "specialist") == models.wanted("summary") == ("haiku",)
    assert load("models: {guided: off}").models.wanted("guided") == ()
    assert load("models: {guided: off}").models.wanted("summary") == ("sonnet",)


def test_a_model_that_is_asked_for_has_no_fallbacks_and_is_every_classes(load: Load) -> None:
    models = load("models: {learner: [sonnet, haiku], classes: {meta: {learner: opus}}}", model="haiku").models
    assert models.wanted("learner") == models.wanted("learner", "meta") == ("haiku",)


def test_the_home_lies_over_the_checkout_key_by_key(load: Load, tmp_path: Path) -> None:
    (tmp_path / "nowhere" / "llmos.yaml").write_text(
        "models: {learner: opus}\nlearner: {max_turns: 9}\nmcp_servers: {time: {command: t}, git: {command: g}}\n"
        "secrets: [A]"
    )
    settings = load("models: {learner: haiku}\nmcp_servers: {git: {url: 'http://h/mcp'}}\nsecrets: [B]")
    assert (settings.models.learner, settings.learner.max_turns) == (("haiku",), 9)
    assert set(settings.mcp_servers) == {"time", "git"}
    assert settings.mcp_servers["git"].url == "http://h/mcp"
    assert settings.secrets == ("B",)


def test_a_named_file_stands_alone(load: Load, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("learner: {max_turns: 7}")
    settings = load("models: {learner: opus}", environ={"LLMOS_CONFIG": str(tmp_path / "other.yaml")})
    assert (settings.models.learner, settings.learner.max_turns) == (("sonnet",), 7)
    assert settings.config_files == (tmp_path / "other.yaml",)
    with pytest.raises(SettingsError, match=r"LLMOS_CONFIG names .*gone\.yaml, which is not a file"):
        load(environ={"LLMOS_CONFIG": str(tmp_path / "gone.yaml")})


def test_the_workspace_configures_nothing(load: Load, tmp_path: Path) -> None:
    (tmp_path / "llmos.yaml").write_text("models: {learner: opus}")
    assert load(workspace=tmp_path).models.learner == ("sonnet",)


# ----------------------------------------------------------------------------------- environment, secrets, servers


@pytest.mark.parametrize("name", ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"])
def test_any_of_three_variables_is_a_key(load: Load, name: str) -> None:
    assert load(environ={name: "k"}).learner.has_key
    assert not load(environ={name: ""}).learner.has_key


def test_the_base_url_of_the_environment_wins(load: Load) -> None:
    text = "learner: {base_url: 'http://a'}"
    assert load(text).learner.base_url == "http://a"
    assert load(text, environ={"ANTHROPIC_BASE_URL": "http://b/"}).learner.base_url == "http://b"
    with pytest.raises(SettingsError, match="ANTHROPIC_BASE_URL must be a URL such as"):
        load(environ={"ANTHROPIC_BASE_URL": "localhost:80"})


def test_a_claude_process_sees_what_it_needs_and_nobody_elses_keys(load: Load) -> None:
    seen = {
        "PATH": "/bin",
        "HOME": "/h",
        "LC_ALL": "C",
        "https_proxy": "p",
        "ANTHROPIC_API_KEY": "k",
        "ANTHROPIC_AUTH_TOKEN": "",
        "CLAUDE_CONFIG_DIR": "/c",
        "DISABLE_TELEMETRY": "1",
    }
    settings = load("secrets: [GITHUB_TOKEN]", environ={**seen, "OPENAI_API_KEY": "o", "GITHUB_TOKEN": "t", "X": "y"})
    assert settings.environment == seen
    with pytest.raises(TypeError):
        settings.environment["X"] = "y"  # type: ignore[index]


def test_any_other_process_sees_no_account_at_all() -> None:
    environ = {"PATH": "/bin", "LC_ALL": "C", "VIRTUAL_ENV": "/v", "ANTHROPIC_API_KEY": "k", "HTTPS_PROXY": "u:p@h"}
    assert plain_environment(environ) == {"PATH": "/bin", "LC_ALL": "C", "VIRTUAL_ENV": "/v"}
    assert set(plain_environment()) <= set(os.environ)


@pytest.mark.parametrize(
    ("environ", "wanted"), [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)]
)
def test_colour_is_left_out_where_it_is_not_wanted(environ: dict[str, str], wanted: bool) -> None:
    assert wants_color(environ) is wanted


def test_claudes_login_is_in_its_own_folder(load: Load) -> None:
    assert load(environ={"HOME": "/h"}).claude_login == Path("/h/.claude/.credentials.json")
    assert load(environ={"HOME": "/h", "CLAUDE_CONFIG_DIR": "/c"}).claude_login == Path("/c/.credentials.json")


def test_a_secret_is_what_the_environment_held(load: Load) -> None:
    settings = load("secrets: [TOKEN, GONE]", environ={"TOKEN": "t", "OTHER": "o"})
    assert settings.secret("TOKEN") == "t"
    with pytest.raises(SettingsError, match="the secret GONE is not set; export GONE"):
        settings.secret("GONE")
    with pytest.raises(SettingsError, match="OTHER is not a secret this home may use"):
        settings.secret("OTHER")


def test_no_secret_is_printed_with_the_settings(load: Load) -> None:
    text = (
        "secrets: [A]\nservers: {s: {base_url: 'http://h', api_key_env: B}}\n"
        "mcp_servers: {s: {command: c, env: {T: '${C}'}}}"
    )
    environ = {"A": "hidden-1", "B": "hidden-2", "C": "hidden-3", "ANTHROPIC_API_KEY": "hidden-4"}
    settings = load(text, environ=environ)
    assert settings.mcp_servers["s"].env == {"T": "hidden-3"}
    assert "hidden" not in repr(settings)


def test_an_mcp_server_in_full(load: Load) -> None:
    server = load(
        "mcp_servers:\n  git:\n    command: mcp-server-git\n    args: ['--repository', .]\n"
        "    read_only: [git_log]\n    effects: {git_commit: write}"
    ).mcp_servers["git"]
    assert (server.name, server.command, server.args) == ("git", "mcp-server-git", ("--repository", "."))
    assert (server.read_only, dict(server.effects), server.url) == (("git_log",), {"git_commit": "write"}, None)


def test_the_effects_are_those_of_the_trace_language() -> None:
    assert tuple(Effect) == EFFECTS


# ------------------------------------------------------------------------------------------------------ bad files


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learner: {modle: opus}", "line 1: there is no key learner.modle; allowed here: name, max_usd_per_run, "),
        ("lerner: {}", "line 1: there is no key lerner; allowed here: battery, learner, "),
        ("a: b: c", "line 1 is not YAML: mapping values are not allowed here"),
        ("models: {learner: [", "line 1 is not YAML"),
        ("- 1", "line 1: the file must be a mapping of names to values"),
        ("learner: 5", "line 1: learner must be a mapping of names to values"),
        ("models:\n  learner: 5", "line 2: models.learner must be the name of a model, or a list of them"),
        ("learner: {model: opus}", "there is no key learner.model any more: it is models.learner now"),
        ("provider: {model: m}", "there is no key provider any more: it is servers"),
        ("models: {classes: {boss: {learner: opus}}}", "must be one of user, system, housekeeping, specialist, meta"),
        ("learner:\n  max_turns: 0", "line 2: learner.max_turns must be a whole number, 1 or more, not 0"),
        ("learner: {max_turns: yes}", "learner.max_turns must be a whole number, 1 or more, not True"),
        ("learner: {max_turns: 2.5}", "learner.max_turns must be a whole number, 1 or more, not 2.5"),
        ("learner: {timeout_s: 0}", "learner.timeout_s must be a number of seconds above 0, not 0"),
        (f"learner: {{max_usd_per_run: {10**400}}}", "learner.max_usd_per_run must be a number of dollars, 0 or more"),
        ("learner: {max_usd_per_run: .nan}", "learner.max_usd_per_run must be a number of dollars, 0 or more"),
        ("learner: {base_url: localhost}", "learner.base_url must be a URL such as"),
        ("battery: {initial_usd: -1}", "battery.initial_usd must be a number of dollars, 0 or more, not -1"),
        ("battery: {initial_usd: 1, initial_usd: 2}", "battery: the key 'initial_usd' is there twice"),
        ("{[1]: 2}", "the file: the key '' is none"),
        ("scheduler: {max_concurrent: '4'}", "scheduler.max_concurrent must be a whole number"),
        ("proof: {enabled: 1}", "proof.enabled must be"),
        ("proof: {max_files: 0}", "proof.max_files must be a whole number, 1 or more"),
        ("secrets: TOKEN", "secrets must be a list"),
        ("secrets:\n- A\n- 'B C'", r"line 3: secrets\[1\] must be the name of an environment variable, not 'B C'"),
        ("mcp_servers: {git: {}}", "mcp_servers.git needs either `command` .* or `url`"),
        ("mcp_servers: {git: {command: a, url: 'http://h'}}", "mcp_servers.git needs either `command` .* or `url`"),
        ("mcp_servers: {git: }", "mcp_servers.git must be a mapping"),
        ("mcp_servers: {a b: {command: c}}", "each name in mcp_servers must be a name of 1 to 32 letters"),
        ("mcp_servers: {git: {command: c, args: [1]}}", r"mcp_servers.git.args\[0\] must be a text \(put numbers"),
        ("mcp_servers: {git: {command: c, env: {T: '${GONE}'}}}", "mcp_servers.git.env.T needs the .* GONE, which"),
        ("mcp_servers: {git: {command: c, effects: {x: bad}}}", "effects.x must be one of pure, read, write"),
        ("prices: {m: {input_usd_per_mtok: 1}}", "prices.m needs output_usd_per_mtok"),
        ("frozen: !!timestamp nonsense", "line 1: this is no timestamp"),
        ("frozen: !!bool nonsense", "line 1: this is no bool"),
        (f"frozen: 0x{'f' * 5000}", "frozen must be true or false, not 0xffff"),
        ("frozen: [[1, 2]]", "frozen must be true or false, not a list"),
        ("scheduler: {max_concurrent: 1" + "0" * 30 + "}", "max_concurrent must be a whole number, at most"),
        ("reliability: {half_life_days: 1.0e+300}", "half_life_days must be a number of days above 0, at most"),
        ("sandbox_readable: [~nobody-at-all/x]", r"sandbox_readable\[0\] must be a path that can be"),
        (f"sandbox_writable: [/{'x' * 300}]", r"sandbox_writable\[0\] must be a path that can be"),
        ("memory: {embedding_model: !!python/object:os.system x}", "could not determine a constructor"),
        ("models: {learner: 2026-13-45}", "line 1: month must be in"),
    ],
)
def test_a_file_that_means_nothing_is_refused_with_its_place(load: Load, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        load(text)
    assert "llmos.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text_is_refused(load: Load, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "llmos.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match=r"llmos\.yaml can't be read: "):
        load()


def test_an_empty_file_and_empty_keys_mean_the_defaults(load: Load) -> None:
    assert load("# nothing\n").models.learner == ("sonnet",)
    assert load("models:\n  learner:\nsecrets:\n").models.learner == ("sonnet",)


def test_settings_differ_only_by_replacing(load: Load) -> None:
    with pytest.raises(AttributeError):
        load().budget_usd = 1.0  # type: ignore[misc]


# ------------------------------------------------------------------------------------------------ trust in traces


def test_what_a_replay_may_risk_is_set_for_each_effect_and_the_rest_keeps_its_default(load: Load) -> None:
    assert dict(load().matching.max_wrong) == {"pure": 0.01, "read": 0.01, "write": 0.001}
    given = load("matching: {max_wrong: {read: 0.05}}").matching.max_wrong
    assert dict(given) == {"pure": 0.01, "read": 0.05, "write": 0.001}


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        for inside in (folder / "home", folder / "home" / "memory"):
            inside.chmod(0o700)


@pytest.mark.parametrize("closed", ["home", "home/memory"])
def test_a_home_that_is_closed_to_this_user_is_one_sentence(open_folder: Path, closed: str) -> None:
    home = open_folder / "home"
    (home / "memory").mkdir(parents=True)
    (open_folder / closed).chmod(0)
    code = """
import os, sys
from pathlib import Path
from llmos.errors import SettingsError
from llmos.settings import load_settings
home, elsewhere = map(Path, sys.argv[1:])
if os.geteuid() == 0:
    os.chdir(elsewhere)
    os.setuid(65534)
try:
    load_settings(home=Path("home"), workspace=Path("/"), checkout=Path("/proc/1"), environ={})
except SettingsError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(home), str(open_folder)],
        cwd=open_folder,
        env={**os.environ, "PYTHONPATH": str(Path(llmos.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert "can't be used: Permission denied; name a folder with --home or LLMOS_HOME" in done.stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("matching: {max_wrong: {read: 2}}", "matching.max_wrong.read must be a number from 0 to 1, not 2"),
        ("matching: {max_wrong: {external: 0.1}}", "there is no key matching.max_wrong.external"),
        ("models: {judge: ''}", "models.judge must be the name of a model"),
        ("judge: {max_usd: -1}", "judge.max_usd must be a number of dollars"),
        ("judge: {timeout_s: 0}", "judge.timeout_s must be a number of seconds above 0"),
        ("reliability: {half_life_days: 0}", "reliability.half_life_days must be a number of days above 0"),
        ("reliability: {max_failures: 0}", "reliability.max_failures must be a whole number, 1 or more"),
        ("audit_rate: 1.5", "audit_rate must be a number from 0 to 1, not 1.5"),
        ("frozen: 1", "frozen must be true or false, not 1"),
    ],
)
def test_what_trust_can_not_be_set_to(load: Load, text: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(text)
    assert said in str(caught.value)


def test_the_judge_is_off_unless_a_model_is_named(load: Load) -> None:
    assert load().models.wanted("judge") == ()
    assert load(environ={"LLMOS_JUDGE": "haiku"}).models.wanted("judge") == ("haiku",)
    assert load("judge: {max_usd: 0.05}").judge.max_usd == 0.05


def test_the_audit_rate_is_the_option_before_the_variable_before_the_file(load: Load) -> None:
    file = "audit_rate: 0.1"
    assert load(file).audit_rate == 0.1
    assert load(file, environ={"LLMOS_AUDIT_RATE": "0.2"}).audit_rate == 0.2
    assert load(file, environ={"LLMOS_AUDIT_RATE": "0.2"}, audit_rate=0.3).audit_rate == 0.3


def test_freezing_is_the_option_before_the_variable_before_the_file(load: Load) -> None:
    assert load().frozen is False
    assert load("frozen: true").frozen is True
    assert load("frozen: true", environ={"LLMOS_FROZEN": "0"}).frozen is False
    assert load(environ={"LLMOS_FROZEN": "0"}, frozen=True).frozen is True


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"audit_rate": 7.0}, "--audit-rate must be a number from 0 to 1, not 7.0"),
        ({"environ": {"LLMOS_AUDIT_RATE": "often"}}, "LLMOS_AUDIT_RATE must be a number from 0 to 1, not 'often'"),
        ({"environ": {"LLMOS_AUDIT_RATE": "nan"}}, "LLMOS_AUDIT_RATE must be a number from 0 to 1, not nan"),
        ({"environ": {"LLMOS_FROZEN": "maybe"}}, "LLMOS_FROZEN must be 1 or 0, not 'maybe'"),
    ],
)
def test_options_and_variables_of_trust_are_checked_too(load: Load, given: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(**given)
    assert said in str(caught.value)
