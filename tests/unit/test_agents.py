"""Profiles of agents: what a file may say, what is left of permissions, and how two become one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from llmos.accounts import to_microusd
from llmos.errors import LLMOSError, NotFoundError, SettingsError, UsageError
from llmos.interfaces.agents import every_agent, find_agent, read_agent, to_yaml
from llmos.kernel.agents import Agent, begun_as, common_tools, merged, shares
from llmos.kernel.permissions import Permissions
from llmos.kernel.places import Host, Place
from llmos.kernel.process import Kind, Process, at_work_for
from llmos.kernel.process_table import ProcessTable
from llmos.kernel.rules import Answer, Policy
from llmos.plugins.builtin import llmos_tools
from llmos.plugins.context import ToolContext
from llmos.plugins.registry import ToolRegistry
from llmos.redaction import Redactor
from llmos.settings import RuleSettings, Settings
from llmos.trace.program import Effect

WORK = Path("/srv/shop")
TOOLS = ("read", "read_all", "write", "bash", "git_log")
KEY = "sk-ant-api03-" + "aB3dE5gH7jK9" * 8


def read(tmp_path: Path, text: str, *, redactor: Redactor | None = None) -> Agent:
    file = tmp_path / "one.yaml"
    file.write_text(text)
    return read_agent(file, redactor or Redactor())


FULL = """\
format: 1
name: reviewer
description: Finds faults
class: specialist
model: haiku
priority: 12
budget_usd: 0.5
tools: [read, "git_*"]
rules:
  - {deny: bash}
  - {ask: read, path: "secret/**", effect: [read]}
instructions: |
  Be short.
  Name the line.
memory: {style: plain, limit: 10, strict: true}
"""


def test_a_profile_says_who_an_agent_is(tmp_path: Path) -> None:
    agent = read(tmp_path, FULL)
    assert (agent.name, agent.kind, agent.model, agent.priority, agent.budget_usd) == (
        "reviewer",
        "specialist",
        "haiku",
        12,
        0.5,
    )
    assert agent.has("read")
    assert agent.has("git_log")
    assert not agent.has("write")
    assert [rule.line for rule in agent.rules] == ["- {deny: bash}", '- {ask: read, path: "secret/**", effect: read}']
    assert "Be short.\nName the line." in agent.persona
    assert 'style: "plain"\nlimit: 10\nstrict: true' in agent.persona


def test_a_profile_is_the_same_after_it_was_written_and_after_a_restart(tmp_path: Path) -> None:
    agent = read(tmp_path, FULL)
    again = read(tmp_path, to_yaml(agent))
    assert again == agent
    assert Agent.from_data(agent.to_data()) == agent


def test_a_profile_that_was_damaged_on_the_way_has_no_tool() -> None:
    for data in ({"nonsense": 1}, {"name": "a", "rules": [1]}, {"name": "a", "rules": [{"answer": "deny"}]}):
        assert not Agent.from_data(data).has("read")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "line 1: the file needs format and name"),
        ("name: a", "needs format"),
        ("format: 2\nname: a", "line 1: format must be 1, the only format that is known here, not 2"),
        ("format: true\nname: a", "line 1: format must be 1"),
        ("format: 1\nname: ../a", "line 2: name must be up to 64 small letters"),
        ("format: 1\nname: a\nrules: [{allow: bash}]", "rules[0] allows something, and a profile can only take away"),
        ("format: 1\nname: a\nrules: [{deny: a, ask: b}]", "rules[0] needs exactly one of allow, ask, deny"),
        ("format: 1\nname: a\nrules: [{deny: a, when: b}]", "line 3: there is no key rules[0].when"),
        ("format: 1\nname: a\ntools: ['[ab]']", "line 3: tools[0] must be the name of a tool"),
        ("format: 1\nname: a\ntools: read", "line 3: tools must be a list"),
        ("format: 1\nname: a\nclass: boss", "line 3: class must be one of user"),
        ("format: 1\nname: a\npriority: 20", "line 3: priority must be a whole number from 0"),
        ("format: 1\nname: a\nbudget_usd: -1", "line 3: budget_usd must be a number of dollars"),
        ("format: 1\nname: a\nmemory: {x: [1]}", "line 3: memory.x must be a text"),
        ("format: 1\nname: a\nmodel: two words", "line 3: model must be the name of a model"),
        ("format: 1\nname: a\nsudo: yes", "line 3: there is no key sudo"),
        (f"format: 1\nname: a\nmemory: {{token: {KEY}}}", "memory.token holds"),
        (f"format: 1\nname: a\ninstructions: use {KEY}", "which no profile may keep"),
        ("format: 1\nname: [", "is not YAML"),
    ],
)
def test_what_is_wrong_with_a_profile_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, text)
    assert sentence in str(caught.value)
    assert "one.yaml" in str(caught.value)
    assert KEY not in str(caught.value)


# --- where profiles are found ------------------------------------------------------------------------


def places(tmp_path: Path) -> Settings:
    made = Settings(home=tmp_path / "home", workspace=tmp_path / "work", checkout=tmp_path / "checkout")
    for folder in (made.home, made.workspace, tmp_path / "checkout" / "workspace"):
        (folder / "agents").mkdir(parents=True)
    return made


def profile(folder: Path, name: str, more: str = "") -> None:
    (folder / "agents" / f"{name}.yaml").write_text(f"format: 1\nname: {name}\n{more}")


def test_what_goals_write_does_not_stand_before_the_users_own_profile(tmp_path: Path) -> None:
    where = places(tmp_path)
    profile(where.workspace, "coder", "instructions: another's\n")
    profile(where.home, "coder", "instructions: mine\n")
    assert find_agent("coder", where).agent.instructions == "mine"
    found, wrong = every_agent(where)
    assert [one.agent.name for one in found] == ["coder"]
    assert "is left out" in wrong[0]


def test_a_profile_of_another_name_than_its_file_and_names_with_paths_are_refused(tmp_path: Path) -> None:
    where = places(tmp_path)
    profile(where.home, "coder")
    (where.home / "agents" / "coder.yaml").rename(where.home / "agents" / "other.yaml")
    with pytest.raises(SettingsError, match=r"name the file coder\.yaml"):
        find_agent("other", where)
    with pytest.raises(UsageError, match="no name of an agent"):
        find_agent("../home/agents/other", where)
    with pytest.raises(NotFoundError, match="there is no agent 'nobody'"):
        find_agent("nobody", where)


def test_other_files_in_a_projects_own_folder_are_left_alone(tmp_path: Path) -> None:
    where = places(tmp_path)
    (where.workspace / "agents" / "crew.yaml").write_text("researcher: {role: finds things}\n")
    assert every_agent(where) == ([], [])


# --- what is left of permissions ---------------------------------------------------------------------


def rule(answer: str, tool: str = "*", **more: Any) -> RuleSettings:
    return RuleSettings(answer=answer, tool=tool, **more)


def answer(policy: Policy, agent: Agent, tool: str, effect: Effect, touched: Sequence[Place | Host]) -> Answer:
    """What is said to a call of an agent, as `Permissions` says it."""
    if not agent.has(tool):
        return Answer.DENY
    return policy.narrowed(agent.rules, WORK).judge(tool, effect, touched).answer


def place(path: str, effect: Effect = Effect.READ, *, inside: bool = True) -> Place:
    return Place(path=Path(path), inside=inside, effect=effect)


def test_a_rule_that_asks_does_not_open_what_is_denied_by_default() -> None:
    outside = place("/etc/passwd", inside=False)
    agent = Agent(name="a", rules=(rule("ask", path="/etc/**"),))
    assert answer(Policy(), agent, "read", Effect.READ, [outside]) is Answer.DENY


def test_a_profile_without_rules_leaves_what_the_user_allows() -> None:
    policy = Policy.of([rule("allow", "bash", effects=("unknown",))], WORK)
    assert answer(policy, Agent(name="a"), "bash", Effect.UNKNOWN, []) is Answer.ALLOW
    denying = Agent(name="a", rules=(rule("deny", "write"),))
    assert answer(policy, denying, "bash", Effect.UNKNOWN, []) is Answer.ALLOW
    assert answer(policy, denying, "write", Effect.WRITE, [place("/srv/shop/a", Effect.WRITE)]) is Answer.DENY


ANSWERS = st.sampled_from(["ask", "deny"])
PATHS = st.sampled_from([None, "a/**", "*.txt", "/etc/**", "b"])
EFFECTS = st.sampled_from([(), ("read",), ("write", "external"), ("unknown",)])
RULES = st.builds(
    RuleSettings, answer=ANSWERS, tool=st.sampled_from(["*", "read*", "write", "bash"]), path=PATHS, effects=EFFECTS
)
PATTERNS = st.sampled_from(["*", "read", "read*", "write", "*_log", "git*", "b*h", "r*a*"])
AGENTS = st.builds(
    Agent,
    name=st.just("a"),
    tools=st.none() | st.lists(PATTERNS, max_size=4).map(tuple),
    rules=st.lists(RULES, max_size=4).map(tuple),
    budget_usd=st.none() | st.floats(0, 5),
    priority=st.none() | st.integers(0, 19),
)
USERS = st.lists(st.builds(RuleSettings, answer=st.sampled_from(["allow", "ask", "deny"]), tool=PATTERNS, path=PATHS))
TOUCHED = st.lists(
    st.builds(
        place,
        st.sampled_from(["/srv/shop/a/x", "/srv/shop/x.txt", "/srv/shop/b", "/srv/shop/c"]),
        st.sampled_from([Effect.READ, Effect.WRITE]),
    )
    | st.just(place("/etc/passwd", inside=False))
    | st.just(Host(name="example.org", port=443, effect=Effect.READ)),
    max_size=2,
)


@settings(max_examples=400, deadline=None)
@given(
    a=AGENTS, b=AGENTS, user=USERS, tool=st.sampled_from(TOOLS), effect=st.sampled_from(list(Effect)), touched=TOUCHED
)
@example(
    a=Agent(name="a", rules=(rule("ask", path="/etc/**"),)),
    b=Agent(name="b"),
    user=[],
    tool="read",
    effect=Effect.READ,
    touched=[place("/etc/passwd", inside=False)],
)
def test_a_merged_agent_is_permitted_just_what_both_are_and_less_than_the_user(
    a: Agent, b: Agent, user: list[RuleSettings], tool: str, effect: Effect, touched: list[Place | Host]
) -> None:
    both = merged(a, replace(b, name="b"), "both", usual_priority=10)
    policy = Policy.of(user, WORK)
    said = [answer(policy, one, tool, effect, touched) for one in (a, b)]
    assert answer(policy, both, tool, effect, touched) is max(said, key=lambda one: one.rank)
    own = policy.judge(tool, effect, touched).answer
    assert all(one.rank >= own.rank for one in said)


@settings(max_examples=300, deadline=None)
@given(a=AGENTS, b=AGENTS)
def test_a_merged_agent_is_as_little_urgent_and_as_cheap_as_the_lesser(a: Agent, b: Agent) -> None:
    both = merged(a, replace(b, name="b"), "both", usual_priority=10, usual_usd=2.0)
    for one in (a, b):
        assert (10 if both.priority is None else both.priority) >= (10 if one.priority is None else one.priority)
        assert (2.0 if both.budget_usd is None else both.budget_usd) <= (
            2.0 if one.budget_usd is None else one.budget_usd
        )


WORDS = st.text("ab*", max_size=6)


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(one=WORDS, other=WORDS, text=st.text("abc", max_size=8))
def test_two_patterns_have_in_common_what_matches_both(one: str, other: str, text: str) -> None:
    common = common_tools((one,), (other,)) or ()
    both = fnmatchcase(text, one) and fnmatchcase(text, other)
    assert any(fnmatchcase(text, each) for each in common) == both


def test_too_many_patterns_are_refused_in_a_sentence_and_soon() -> None:
    with pytest.raises(UsageError, match="name the tools instead"):
        common_tools(("*".join("abcdefghijklmnop") + "*",), ("*".join("ponmlkjihgfedcba") + "*", "*" + "*x" * 30))


def permissions(tmp_path: Path) -> tuple[Permissions, ToolRegistry, ToolContext]:
    registry = ToolRegistry()
    for tool in llmos_tools():
        registry.register(tool)
    made = Permissions(usual=Policy.of([], tmp_path), workspace=tmp_path)
    return made, registry, ToolContext(workspace=tmp_path, run_id="r", middleware=(made,))


async def test_each_call_is_held_against_the_profile_of_the_process_that_makes_it(tmp_path: Path) -> None:
    _, registry, ctx = permissions(tmp_path)
    (tmp_path / "a.txt").write_text("hello")
    (tmp_path / "b.txt").write_text("hidden")
    agent = Agent(name="reader", tools=("read",), rules=(rule("deny", path="b.txt"),))
    with at_work_for(Process(pid=1, goal="g", created_at=datetime.now(UTC), agent=agent)):
        good = await registry.call("read", {"file_path": "a.txt"}, ctx)
        hidden = await registry.call("read", {"file_path": "b.txt"}, ctx)
        written = await registry.call("write", {"file_path": "c.txt", "content": "x"}, ctx)
    assert not good.is_error
    assert hidden.is_error
    assert "the profile of the agent reader does not list this tool" in written.text
    assert not (tmp_path / "c.txt").exists()
    assert not (await registry.call("write", {"file_path": "c.txt", "content": "x"}, ctx)).is_error


def test_what_an_agent_begins_works_as_it_does() -> None:
    table = ProcessTable(clock=lambda: datetime.now(UTC))
    agent = Agent(name="reader", tools=("read",))
    parent = table.spawn("a")
    parent.agent = agent
    with at_work_for(parent):
        assert table.spawn("b").agent is agent
        with pytest.raises(UsageError, match="works as it does, and not as other"):
            begun_as(Agent(name="other"), None, None, None)


def test_what_is_asked_for_comes_before_the_profile_but_for_a_larger_budget() -> None:
    agent = Agent(name="a", kind="specialist", priority=12, budget_usd=0.5)
    assert begun_as(agent, None, None, None) == (Kind.SPECIALIST, 12, 0.5)
    assert begun_as(agent, Kind.META, 3, 2.0) == (Kind.META, 3, 0.5)
    assert begun_as(agent, None, None, 0.1) == (Kind.SPECIALIST, 12, 0.1)


# --- merging and splitting ---------------------------------------------------------------------------

A = Agent(name="a", instructions="Plan.", model="opus", memory={"style": "plain", "team": "blue"})
B = Agent(name="b", instructions="Check.", model="haiku", memory={"style": "brief", "limit": 3})


def test_facts_that_differ_are_named_unless_one_agent_is_preferred() -> None:
    with pytest.raises(UsageError, match=r"differ in the fact 'style' and the model: say whose counts"):
        merged(A, B, "c", usual_priority=10)
    for prefer, style, model in (("a", "plain", "opus"), ("b", "brief", "haiku")):
        both = merged(A, B, "c", prefer=prefer, usual_priority=10)
        assert both.memory == {"style": style, "team": "blue", "limit": 3}
        assert (both.model, both.instructions) == (model, "Plan.\n\nCheck.")


def test_true_is_not_the_same_fact_as_1() -> None:
    with pytest.raises(UsageError, match="the fact 'x'"):
        merged(Agent(name="a", memory={"x": True}), Agent(name="b", memory={"x": 1}), "c", usual_priority=10)


def test_agents_of_two_classes_are_not_merged_even_if_one_is_preferred() -> None:
    with pytest.raises(UsageError, match="a is of the class user and b of specialist"):
        merged(Agent(name="a"), Agent(name="b", kind="specialist"), "c", prefer="a", usual_priority=10)


def test_what_a_model_is_told_and_may_not_do_tells_agents_apart_and_what_it_costs_does_not() -> None:
    assert Agent(name="a", model="opus", kind="meta", priority=3, budget_usd=1.0).key == ""
    others = [replace(A, name="x"), replace(A, memory={}), replace(A, instructions="")]
    others += [replace(A, tools=("read",)), replace(A, tools=()), replace(A, rules=(rule("deny", "bash"),))]
    keys = {one.key for one in (A, B, *others)}
    assert len(keys) == 8
    assert replace(A, priority=3, budget_usd=1.0, model="haiku", description="x").key == A.key
    assert Agent(name="a", tools=("read",)).persona == ""


@given(usd=st.floats(0.001, 1000), count=st.integers(1, 50))
def test_a_divided_budget_is_all_of_it_in_parts_that_differ_by_a_micro_dollar(usd: float, count: int) -> None:
    parts = [to_microusd(one, what="a part") for one in shares(usd, count)]
    assert sum(parts) == to_microusd(usd, what="all")
    assert max(parts) - min(parts) <= 1


def test_nothing_is_divided_into_nothing() -> None:
    with pytest.raises(LLMOSError, match="leaves nothing for one of them"):
        shares(0.000002, 3)
