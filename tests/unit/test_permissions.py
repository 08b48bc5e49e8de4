"""Which calls are allowed, asked about and refused: rules over tools, paths, hosts and effects."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from llmos.errors import CallRefusedError, SettingsError
from llmos.kernel.permissions import Approval, Asked, Permissions, Reply, digest, step_digest
from llmos.kernel.places import Host, Place, folds_case, host_of, place_of
from llmos.kernel.rules import Answer, Policy, intersection
from llmos.plugins.builtin import llmos_tools
from llmos.plugins.context import ToolContext, TraceStep
from llmos.plugins.marking import llm_tool, tool_of
from llmos.plugins.registry import ToolRegistry
from llmos.plugins.tool import ToolCall, ToolResult
from llmos.plugins.touching import Kind, Touch
from llmos.settings import RuleSettings
from llmos.trace.program import Effect

CALLED: list[str] = []


@llm_tool("send", "Sends a mail", {"to": str, "text": str}, effect=Effect.EXTERNAL, version="1")
async def send(to: str, text: str) -> str:
    CALLED.append(to)
    return f"sent to {to}"


@llm_tool(
    "store",
    "Stores a file somewhere",
    {"where": {"type": "string", "format": "path"}, "links": {"type": "array", "items": {"format": "uri"}}},
    defaults={"links": []},
    effect=Effect.WRITE,
    version="1",
)
async def store(where: str, links: list[str]) -> str:
    CALLED.append(where)
    return where


def rule(answer: str, tool: str, **more: Any) -> RuleSettings:
    effects = more.pop("effect", ())
    return RuleSettings(
        answer=answer, tool=tool, effects=(effects,) if isinstance(effects, str) else effects, source="test", **more
    )


@dataclass(kw_only=True)
class Desk:
    """A workspace, the built-in tools and two more, and permissions with rules of the test's own."""

    root: Path
    rules: Sequence[RuleSettings] = ()
    registry: ToolRegistry = field(default_factory=ToolRegistry)
    approvals: Remembered | None = None

    def __post_init__(self) -> None:
        for tool in (*llmos_tools(), tool_of(send), tool_of(store)):
            self.registry.register(tool)
        self.permissions = Permissions(usual=Policy.of(self.rules, self.root / "work"), approvals=self.approvals)

    @property
    def ctx(self) -> ToolContext:
        work = self.root / "work"
        return ToolContext(
            workspace=work,
            run_id="run",
            denied=(work / "memory",),
            sealed=(work / "llmos.yaml",),
            middleware=(self.permissions,),
            gate=None if self.permissions.policy.is_empty else self.permissions,
            env={"PATH": "/usr/bin:/bin"},
        )

    def said(self, tool: str, **arguments: Any) -> Answer:
        known = self.registry.get(tool)
        effect = known.effect_of(self.ctx, arguments)
        return self.permissions.said(ToolCall(tool=known, arguments=arguments, effect=effect, ctx=self.ctx)).answer

    def call(self, tool: str, ctx: ToolContext | None = None, **arguments: Any) -> ToolResult:
        return asyncio.run(self.registry.call(tool, arguments, ctx or self.ctx))

    def asked(
        self, tool: str, reply: Reply, ctx: ToolContext | None = None, **arguments: Any
    ) -> tuple[Any, list[Asked]]:
        """A call in a run in which somebody answers."""
        questions: list[Asked] = []

        async def ask(asked: Asked) -> Reply:
            questions.append(asked)
            return reply

        with self.permissions.asking("run", ask):
            return self.call(tool, ctx, **arguments), questions


@dataclass(kw_only=True)
class Remembered:
    """Approvals as long as a test lasts; the stored ones pass the same in their own tests."""

    kept: dict[str, Approval] = field(default_factory=dict)

    async def approved(self, digests: tuple[str, ...], effect: Effect) -> bool:
        return any(one in self.kept and self.kept[one].effect.rank >= effect.rank for one in digests)

    async def remember(self, approval: Approval) -> None:
        self.kept[approval.digest] = approval


MakeDesk = Callable[..., Desk]


@pytest.fixture
def desk(tmp_path: Path) -> MakeDesk:
    CALLED.clear()
    work, outside = tmp_path / "work", tmp_path / "outside"
    (work / "private").mkdir(parents=True)
    (work / "memory").mkdir()
    outside.mkdir()
    (work / "a.txt").write_text("alpha")
    (work / "private" / "key.txt").write_text("secret words")
    (work / ".env").write_text("TOKEN=1")
    (outside / "far.txt").write_text("far away")
    (work / "link").symlink_to(outside)
    return lambda *rules, **more: Desk(root=tmp_path, rules=rules, **more)


# ------------------------------------------------------------------------------------------- without any rule


def test_without_a_rule_the_inside_is_open_the_outside_closed_and_the_rest_asked(
    desk: MakeDesk, tmp_path: Path
) -> None:
    made = desk()
    assert made.said("read", file_path="a.txt") is Answer.ALLOW
    assert made.said("write", file_path="new/b.txt", content="x") is Answer.ALLOW
    assert made.said("http_get", url="https://example.com/") is Answer.ALLOW
    assert made.said("calculate", expression="1+1") is Answer.ALLOW
    assert made.said("bash", command="cat a.txt > b.txt") is Answer.ALLOW
    assert made.said("bash", command="python3 a.py") is Answer.ASK
    assert made.said("send", to="x", text="y") is Answer.ASK
    for path in (
        "/etc/passwd",
        "../outside/far.txt",
        "link/far.txt",
        "private/../../outside/far.txt",
        "~/x",
        "~",
        "a\0b",
    ):
        assert made.said("read", file_path=path) is Answer.DENY, path
        assert made.said("store", where=path) is Answer.DENY, path
    for command in ("cat /etc/passwd", "cat link/far.txt", "cat ../outside/far.txt", "cat < /etc/passwd"):
        assert made.said("bash", command=command) is Answer.DENY, command


def test_what_belongs_to_llm_os_stays_closed_whatever_a_rule_says(desk: MakeDesk) -> None:
    made = desk(rule("allow", "*", path="/**"))
    assert made.said("read", file_path="memory/llmos.duckdb") is Answer.DENY
    assert made.said("write", file_path="llmos.yaml", content="x") is Answer.DENY
    assert made.said("bash", command="cat memory/llmos.duckdb") is Answer.DENY


def test_a_link_that_goes_round_in_circles_is_left_to_the_tool(desk: MakeDesk, tmp_path: Path) -> None:
    (tmp_path / "work" / "loop").symlink_to("loop")
    made = desk()
    assert "can't be used as a path" in made.call("read", file_path="loop").output
    assert made.said("read", file_path="loop/../../outside/far.txt") is Answer.DENY


# ---------------------------------------------------------------------------------------------------- the rules


def test_deny_beats_ask_and_ask_beats_allow(desk: MakeDesk) -> None:
    rules = [
        rule("allow", "*", path="private"),
        rule("ask", "read", path="private/*.txt"),
        rule("deny", "*", path=".env"),
    ]
    for order in (rules, rules[::-1]):
        made = desk(*order)
        assert made.said("read", file_path="private/key.txt") is Answer.ASK
        assert made.said("write", file_path="private/key.txt", content="x") is Answer.ALLOW
        assert made.said("read", file_path=".env") is Answer.DENY
        assert made.said("read", file_path="private/.env") is Answer.DENY


def test_a_rule_is_for_its_tools_and_effects_only(desk: MakeDesk) -> None:
    made = desk(
        rule("deny", "w*", effect="write"),
        rule("allow", "send", effect="external"),
        rule("allow", "b*", effect="unknown"),
    )
    assert made.said("write", file_path="a.txt", content="x") is Answer.DENY
    assert made.said("edit", file_path="a.txt", old_string="a", new_string="b") is Answer.ALLOW
    assert made.said("send", to="x", text="y") is Answer.ALLOW
    assert made.said("bash", command="python3 a.py") is Answer.ALLOW
    assert made.said("bash", command="cat /etc/passwd") is Answer.DENY


def test_the_outside_is_only_opened_by_a_rule_that_names_it(desk: MakeDesk, tmp_path: Path) -> None:
    far = str(tmp_path / "outside" / "far.txt")
    assert desk(rule("allow", "*")).said("read", file_path=far) is Answer.DENY
    assert desk(rule("allow", "*", path="*")).said("read", file_path=far) is Answer.DENY
    made = desk(rule("allow", "read", path=str(tmp_path / "outside"), effect="read"))
    assert made.call("read", file_path=far).output["text"] == "far away"
    assert made.call("read", file_path="link/far.txt").output["text"] == "far away"
    assert made.said("write", file_path=far, content="x") is Answer.DENY
    assert made.said("grep", pattern="x", path=str(tmp_path / "outside")) is Answer.DENY


def test_a_rules_path_follows_links_as_the_judged_path_does(desk: MakeDesk, tmp_path: Path) -> None:
    made = desk(rule("allow", "*", path="link/*.txt"), rule("deny", "*", path=str(tmp_path / "work" / "link" / "b*")))
    assert made.said("read", file_path=str(tmp_path / "outside" / "far.txt")) is Answer.ALLOW
    assert made.said("read", file_path=str(tmp_path / "outside" / "b.txt")) is Answer.DENY


def test_a_closed_path_is_closed_however_it_is_written(desk: MakeDesk, tmp_path: Path) -> None:
    made = desk(rule("deny", "*", path="private/**"))
    (tmp_path / "work" / "door").symlink_to("private")
    for path in (
        "private/key.txt",
        "./private//key.txt",
        "door/key.txt",
        "private/../private/key.txt",
        f"{tmp_path}/work/private/key.txt",
    ):
        assert made.call("read", file_path=path).is_error, path
        assert made.said("bash", command=f"cat '{path}'") is Answer.DENY, path


def test_a_search_through_a_folder_leaves_out_what_is_closed_in_it(desk: MakeDesk) -> None:
    made = desk(rule("deny", "*", path="private"), rule("ask", "*", path=".env"))
    assert made.call("grep", pattern="secret|TOKEN|alpha").output["files"] == [{"path": "a.txt", "count": 1}]
    assert made.call("find_files").output["count"] == 1
    code = (
        "result = []\nfor name in ('private/key.txt', '.env', 'a.txt'):\n"
        "    try:\n        result.append(open(name).read())\n    except OSError:\n        pass"
    )
    assert made.call("python", code=code).output["result"] == ["alpha"]
    assert made.said("bash", command="grep -r secret .") is Answer.ASK
    assert made.said("bash", command="cat p*") is Answer.ASK
    assert made.said("bash", command="cat a.txt") is Answer.ALLOW


def test_a_pattern_that_is_none_is_a_mistake_in_the_settings(desk: MakeDesk) -> None:
    with pytest.raises(SettingsError, match=r"test: the pattern .* never closed"):
        desk(rule("deny", "*", path="a/[b"))
    with pytest.raises(SettingsError, match=r"test: '~nobody-at-all/x' names a user that does not exist"):
        desk(rule("deny", "*", path="~nobody-at-all/x"))


def test_names_count_as_the_file_system_takes_them(tmp_path: Path) -> None:
    policy = Policy.of([rule("deny", "*", path="private/**"), rule("allow", "*", path="/Data/**")], tmp_path)

    def said(path: Path, folds: bool) -> Answer:
        place = Place(path=path, inside=path.is_relative_to(tmp_path), effect=Effect.READ, folds=folds)
        return policy.judge("read", Effect.READ, [place]).answer

    assert said(tmp_path / "PRIVATE" / "x", folds=False) is Answer.ALLOW
    assert said(tmp_path / "PRIVATE" / "x", folds=True) is Answer.DENY
    assert said(Path("/data/x"), folds=True) is Answer.DENY
    assert folds_case(tmp_path / "none" / "x") is False


# -------------------------------------------------------------------------------------------------------- hosts


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://Example.COM/x", "example.com"),
        ("https://example.com./x", "example.com"),
        ("https://example.com:8443/", "example.com"),
        ("https://good.org@example.com/", "example.com"),
        ("https://user:good.org@example.com:80/", "example.com"),
        ("https://example.com#@good.org/", "example.com"),
        ("https://example.com?@good.org/", "example.com"),
        ("https://B\u00fccher.example/", "xn--bcher-kva.example"),
        ("https://xn--bcher-kva.example/", "xn--bcher-kva.example"),
        ("http://2130706433/", "127.0.0.1"),
        ("http://0x7f.1/", "127.0.0.1"),
        ("http://[::1]/", "::1"),
        ("http://[::ffff:127.0.0.1]/", "127.0.0.1"),
        ("example.com", "example.com"),
        ("//example.com/x", "example.com"),
    ],
)
def test_a_host_has_one_name(url: str, name: str) -> None:
    assert host_of(Touch(kind=Kind.HOST, value=url, effect=Effect.READ)).name == name


@pytest.mark.parametrize(
    "url", ["https://good.org\\@example.com/", "http://", "http://exa mple.com/", "http://%65xample.com/", ""]
)
def test_a_url_that_can_be_read_in_two_ways_leads_nowhere(url: str, desk: MakeDesk) -> None:
    made = desk(rule("allow", "http_get", host="*"))
    assert host_of(Touch(kind=Kind.HOST, value=url, effect=Effect.READ)).name in (None, "example.com")
    if host_of(Touch(kind=Kind.HOST, value=url, effect=Effect.READ)).name is None:
        assert made.said("http_get", url=url) is Answer.DENY


def test_hosts_are_matched_by_name_and_port(desk: MakeDesk) -> None:
    made = desk(
        rule("deny", "*", host="*.example.com"),
        rule("deny", "*", host="127.0.0.1"),
        rule("ask", "http_get", host="b\u00fccher.de"),
        rule("deny", "http_get", host="plain.org:8080"),
    )
    assert made.said("http_get", url="https://www.EXAMPLE.com./") is Answer.DENY
    assert made.said("http_get", url="https://example.com/") is Answer.ALLOW
    assert made.said("http_get", url="https://a.example.com@plain.org/") is Answer.ALLOW
    assert made.said("http_get", url="http://2130706433/") is Answer.DENY
    assert made.said("http_get", url="https://xn--bcher-kva.de/") is Answer.ASK
    assert made.said("http_get", url="https://plain.org:8080/") is Answer.DENY
    assert made.said("fetch_file", url="https://www.example.com/x", target="x") is Answer.DENY


def test_paths_and_hosts_are_found_by_the_formats_of_a_schema(desk: MakeDesk) -> None:
    made = desk(rule("deny", "*", path="private"), rule("allow", "store", host="good.org"))
    assert made.said("store", where="private/x") is Answer.DENY
    assert made.said("store", where="a.txt") is Answer.ALLOW
    assert made.said("store", where="a.txt", links=["https://good.org/"]) is Answer.ALLOW
    assert made.said("store", where="a.txt", links=["https://good.org/", "https://other.org/"]) is Answer.ASK


def test_a_hook_that_fails_makes_the_call_unknown(desk: MakeDesk) -> None:
    made = desk()

    def broken(ctx: ToolContext, arguments: Any) -> list[Touch]:
        raise KeyError("x")

    made.registry.register(replace(tool_of(store), name="odd", paths=broken))
    assert made.said("odd", where="a.txt") is Answer.ASK


# ------------------------------------------------------------------------------------------------- intersection


def test_a_run_inside_another_never_gets_more_than_that_one(desk: MakeDesk, tmp_path: Path) -> None:
    work = tmp_path / "work"
    parent = Policy.of([rule("deny", "*", path="private"), rule("allow", "send", effect="external")], work)
    child = Policy.of([rule("allow", "*", path="/**"), rule("allow", "bash", effect="unknown")], work)
    both = intersection(parent, child)
    place = place_of(Touch(kind=Kind.PATH, value="private/key.txt", effect=Effect.READ), work)
    far = place_of(Touch(kind=Kind.PATH, value="/etc/passwd", effect=Effect.READ), work)
    inside = place_of(Touch(kind=Kind.PATH, value="a.txt", effect=Effect.READ), work)
    table: list[tuple[str, Effect, list[Place | Host]]] = [
        ("read", Effect.READ, [place]),
        ("read", Effect.READ, [far]),
        ("read", Effect.READ, [inside]),
        ("send", Effect.EXTERNAL, []),
        ("bash", Effect.UNKNOWN, []),
    ]
    for tool, effect, touched in table:
        ranks = [policy.judge(tool, effect, touched).answer.rank for policy in (parent, child)]
        assert both.judge(tool, effect, touched).answer.rank == max(ranks)
        assert intersection(child, parent).judge(tool, effect, touched).answer.rank == max(ranks)
    assert both.explicit("read", far) is None
    assert both.explicit("read", place) is Answer.DENY


# --------------------------------------------------------------------------------------------- asking and calling


def test_a_call_nobody_can_approve_is_refused_with_the_line_that_would_allow_it(desk: MakeDesk) -> None:
    result = desk().call("send", to="ada", text="hi")
    assert isinstance(result.error, CallRefusedError)
    assert (result.error.exit_code, result.error.line) == (4, "- {allow: send, effect: external}")
    assert result.error.line in result.output
    assert CALLED == []
    assert not desk(rule("allow", "send", effect="external")).call("send", to="ada", text="hi").is_error


def test_yes_holds_for_this_very_call_and_this_run(desk: MakeDesk) -> None:
    made, questions = desk(), []

    async def ask(asked: Asked) -> Reply:
        questions.append(asked)
        return True

    with made.permissions.asking("run", ask):
        for to in ("ada", "ada", "bob"):
            assert not made.call("send", to=to, text="hi").is_error
    assert [one.arguments["to"] for one in questions] == ["ada", "bob"]
    assert made.call("send", to="ada", text="hi").is_error


def test_no_is_no(desk: MakeDesk) -> None:
    result, questions = desk().asked("send", False, to="ada", text="hi")
    assert (result.is_error, "was not approved" in result.output, len(questions), CALLED) == (True, True, 1, [])


def test_always_is_remembered_for_the_call_or_for_the_step_with_any_slots(desk: MakeDesk) -> None:
    approvals = Remembered()
    made = desk(approvals=approvals)
    made.asked("send", "always", to="ada", text="hi")
    assert not made.call("send", to="ada", text="hi").is_error
    assert made.call("send", to="bob", text="hi").is_error
    step = replace(made.ctx, origin=TraceStep(trace_id="mail", step_id="send", pattern='{"to": "{who}"}'))
    made.asked("send", "always", step, to="cid", text="hi")
    assert not made.call("send", step, to="dan", text="hi").is_error
    other = replace(step, origin=TraceStep(trace_id="other", step_id="send", pattern='{"to": "{who}"}'))
    assert made.call("send", other, to="dan", text="hi").is_error
    assert [one.trace_id for one in approvals.kept.values()] == [None, "mail"]


def test_an_approval_does_not_cover_a_worse_effect(desk: MakeDesk) -> None:
    approvals = Remembered()
    made = desk(approvals=approvals)
    step = replace(made.ctx, origin=TraceStep(trace_id="mail", step_id="send", pattern="{}"))
    made.asked("send", "always", step, to="ada", text="hi")
    tool = tool_of(send)
    made.registry.unregister("send")
    made.registry.register(replace(tool, effect=Effect.UNKNOWN))
    assert made.call("send", step, to="ada", text="hi").is_error


def test_a_digest_is_bound_to_tool_version_and_arguments() -> None:
    base = digest("send", "1", {"to": "ada", "text": "hi"})
    assert base == digest("send", "1", {"text": "hi", "to": "ada"})
    assert len(base) == 64
    others = [digest("post", "1", {"to": "ada", "text": "hi"}), digest("send", "2", {"to": "ada", "text": "hi"})]
    others += [digest("send", "1", {"to": "ada", "text": "hi "}), digest("send", "1", {"to": ["ada"], "text": "hi"})]
    others.append(step_digest("send", "1", TraceStep(trace_id="t", step_id="s", pattern="{}")))
    assert len({base, *others}) == len(others) + 1


def test_a_secret_is_neither_shown_nor_remembered(desk: MakeDesk) -> None:
    approvals = Remembered()
    made = desk(approvals=approvals)
    origin = TraceStep(trace_id="t", step_id="s", pattern='{"text": "{secret.TOKEN}"}', hidden=frozenset({"text"}))
    _, questions = made.asked("send", "always", replace(made.ctx, origin=origin), to="ada", text="hunter2")
    assert "hunter2" not in str(questions) + str(approvals)


def test_two_questions_are_asked_one_after_the_other(desk: MakeDesk) -> None:
    made, open_now, most = desk(), 0, 0

    async def ask(asked: Asked) -> Reply:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        await asyncio.sleep(0)
        open_now -= 1
        return True

    async def both() -> None:
        ctx = made.ctx
        await asyncio.gather(*(made.registry.call("send", {"to": to, "text": "x"}, ctx) for to in "abc"))

    with made.permissions.asking("run", ask):
        asyncio.run(both())
    assert (most, sorted(CALLED)) == (1, ["a", "b", "c"])


def test_every_builtin_that_takes_a_path_says_so() -> None:
    silent = {
        tool.name
        for tool in llmos_tools()
        if {"path", "file_path", "source", "target", "files", "url"} & set(tool.schema["properties"])
        and not (tool.paths or tool.hosts)
    }
    assert silent == set()
