"""The closed classes of English words that reading goals turns on, each named by what it is used for."""

from __future__ import annotations

ARTICLES = frozenset("a an the".split())
"""Words before a name that say nothing of it."""
COURTESY = frozenset("kindly please".split())
"""Words that only make a request polite."""
LINKS = frozenset("and are as at by for from in into is of on or to with".split())
"""Words that join others; before them an `a` is a name."""
NEGATION = frozenset(
    """
    aren't aren’t can't cannot can’t didn't didn’t doesn't doesn’t don't don’t except isn't isn’t neither never no
    none nor not wasn't wasn’t without won't won’t
    """.split()
)
"""Words that turn a goal round."""
DIRECTION = frozenset(
    """
    above after before below between bottom disable down enable from in into left off on onto out over right since
    to top under until up
    """.split()
)
"""Words that say where from, where to, which way and which state."""
QUANTIFIER = frozenset(
    """
    all any average best biggest both cheapest closest each every farthest fewer first highest largest last latest
    least less longest lowest max maximum min minimum more most nearest newest next oldest only previous shortest
    smallest some total worst
    """.split()
)
"""Words that say how many, or which of many."""
WEAK = frozenset("from in into on onto some to".split())
"""Words of direction and number that are too common to tell one task from another."""
CRITICAL = (NEGATION | DIRECTION | QUANTIFIER) - WEAK
"""Words on which the meaning turns; they anchor a template as content words do."""
PLAIN = frozenset(
    """
    a about ago also although am among an and are as at be because been but by can could current did dislike do does
    during for from further had has have he her here him his how i if in into is it its just like may me might must
    my now of on onto or our per recent recently shall she should so some than that the their them then there these
    they this those though till to today tomorrow tonight too unless us was we were what when where whether which
    while who whom whose why will with within would yesterday you your
    """.split()
)
"""Words that say nothing of a task by themselves."""
FUNCTION = CRITICAL | PLAIN
"""All small words."""
LIGHT = PLAIN | frozenset("find get give kindly please s show tell".split())
"""Words that hold no template."""
NEUTRAL = frozenset("a an of the".split())
"""Small words that any value may have."""
COMMON = frozenset(
    """
    a all an and any are as at be by can could do does for from how i in into is it its me my no not of on or our
    out should some that the there this to up us we what which will with would you your
    """.split()
)
"""Words so common that two goals have nothing in common by them."""
COURTESIES = frozenset("a an are be is kindly please s the there".split())
"""Words that may come and go without changing what is asked, as long as a question stays one."""
ALIKE = tuple(
    frozenset(words.split()) for words in ("i me mine my", "our ours us we", "you your", "can could will would")
)
"""Words that say whose or whether, in their forms."""
COMING_AND_GOING = COURTESIES | frozenset("can could do does i it me my our us will would you".split())
"""Words that may come and go where a trace's own wordings have them and lack them."""
PREPOSITIONS = frozenset("at for in of".split())
"""Words that may, too, where a trace has no two slots that they could tell apart."""
ASKED_OF_YOU = frozenset("can could will would".split())
"""What, with `you`, begins a request and says nothing of it."""
ASKING = frozenset(
    """
    am are did do does had has have how is shall should was were what when where which who whom whose why will
    """.split()
)
"""Words that a question begins with."""
TURNING = (
    NEGATION
    | DIRECTION
    | QUANTIFIER
    | frozenset(
        """
    add again and ascending by close create decrease delete descending disabled enabled false hide if increase lock
    lower open or raise remove show start stop true undo unless unlock yes
    """.split()
    )
)
"""Words that no second run makes a value of, however it exchanges them."""
CONDITIONAL = frozenset("depending else exists if missing otherwise unless when whether".split())
"""Words by which a goal depends on how things are."""
DAYS = frozenset(
    """
    ago current day latest month now quarter recent recently today today's todays tomorrow tonight week weekend year
    yesterday yesterday's
    """.split()
)
"""Words by which a goal speaks of the day it is said on."""
RANKING = frozenset(
    """
    best biggest bottom first largest last latest least longest most newest next oldest previous recent shortest
    smallest top worst
    """.split()
)
"""Words that choose entries of a list by how they rank."""
BINDING = frozenset("about at by for from in of on with".split())
"""Words that say more of what stands before them."""
LEADING = frozenset("and as into onto then to".split())
"""Words that go on to something else."""
THINGS = frozenset(
    """
    content directory document entry everything file folder item line listed name named number page record row
    table word
    """.split()
)
"""Words that say nothing of an entry but that it is one."""
TIMES = frozenset(
    """
    afternoon apr april aug august autumn christmas daily dates day days dec december easter eve evening feb february
    fri friday halloween holiday holidays hourly jan january jul july jun june mar march midnight mon monday month
    monthly months morning night noon nov november oct october pentecost quarter quarterly quarters sat saturday sep
    sept september spring summer sun sunday thanksgiving thu thursday tmrw tue tuesday wed wednesday week weekday
    weekdays weekend weekends weekly weeks winter year yearly years
    """.split()
)
"""Words that say when."""
RECORDED = frozenset(
    """
    age amount author authors category color colour count country date duration email extension id language length
    location name names number person popularity price priority rating relevance size status time title type user
    users
    """.split()
)
"""What records are sorted, grouped and told apart by: a kind of value, never a value."""
COUNTED = frozenset("eight five four many multiple nine seven several six ten three two various".split())
"""Words that say how many."""
UNITS = frozenset("celsius euro euros dollar dollars fahrenheit feet imperial kelvin kilometers metric miles".split())
"""Words of measure."""
DEICTIC = frozenset(
    """
    a all an answer anybody anyone anything everybody everyone everything he her him his i it last latest me my myself
    nothing our output previous result results she that the their them these they this those us usual we well you your
    """.split()
)
"""Words that point at something without naming it."""
MODIFYING = frozenset(
    """
    again another anybody anyone anything anywhere both called chronologically containing different else elsewhere
    ending even ever everybody everyone everything everywhere excluding feat featuring filtered grouped half hers
    herself himself ignoring including instead mine minus myself named nobody nothing omitting once ordered other
    others ours ourselves plus same sans skipping somebody someone something sorted starting thank thanks theirs
    themselves twice using versus via vs whoever yours yourself
    """.split()
)
"""Words that mostly say how, when or of how many something is done, and belong to no name."""
NAMED_LY = frozenset("assembly butterfly emily family italy july reply sicily supply".split())
"""Names that end as adverbs do."""
SELECTING = frozenset(
    """
    above after ago any appropriate before below best between bigger biggest both bottom but couple day dozen during
    eight eleven except excluding few fewer first five four half higher if including just larger largest last latest
    least less longer longest lower month more most never newer newest next nine no not older oldest one only other
    others over previous random recent relevant remaining rest selected seven several shorter shortest since single
    six smaller smallest some ten than that three today top twelve two under unless until week when where whether
    which who whose within without worst year yesterday
    """.split()
)
"""Words that choose some entries of a list."""
UNSELECTING = frozenset(
    """
    a all also an and are as at be by each entire every for from here in into is it its kindly me my of on onto our
    out per please the their them then there these this those to up us using via whole with your
    """.split()
)
"""Words that choose none."""
DOING = frozenset(
    """
    a above after all an and any are as at before below both but by current day doesn't don't don’t double down each
    eight else every except fewer first five for four from half if in into is it its last latest least left less
    month more most my never nine no none not now of off on once one only onto or otherwise our out over right seven
    six some ten that them then these this those three to today tomorrow twice two under unless up week what when
    which with without year yesterday your
    """.split()
)
"""Words that say what is done, how, to how much and when: another one is another task, never another subject."""
