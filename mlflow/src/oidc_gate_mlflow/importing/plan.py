"""What is to be written: decided here, without a database, from what is there and what exists."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from oidc_gate_mlflow.importing.source import Grant, Old, Pattern, Person, Who
from oidc_gate_mlflow.importing.things import DEFAULT_WORKSPACE, Thing, Things
from oidc_gate_mlflow.settings import group_name, role_name

# From nothing to everything. MLflow's DENY wins over everything else, as NO_PERMISSIONS does there.
LEVELS = ("READ", "USE", "EDIT", "MANAGE")
REFUSES = "DENY"
NAMES: Mapping[str, str] = {**{level: level for level in LEVELS}, "NO_PERMISSIONS": REFUSES}
OF_WORKSPACES = ("USE", "MANAGE")
NAME_CHARACTERS = 255
RESERVED_ROLE = "__user_"


@dataclass(frozen=True)
class Names:
    """Who is called what here, and who can't be."""

    users: Mapping[str, str]
    admin_groups: frozenset[str]
    bootstrap_admin: str
    local_accounts: frozenset[str]


@dataclass
class Plan:
    """``grants`` is by who, and by what. The names are those of here."""

    users: list[str] = field(default_factory=list)
    grants: dict[tuple[Who, Thing], str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    differs: list[str] = field(default_factory=list)


def make(old: Old, things: Things, names: Names, *, expand: bool, default: str) -> Plan:
    return _Planner(old, things, names, expand).plan(default)


def stronger(first: str | None, second: str) -> str:
    """How MLflow adds up the permissions of a user and of the user's roles."""
    if first is None or REFUSES in (first, second):
        return second if first is None else REFUSES
    return max(first, second, key=LEVELS.index)


class _Planner:
    def __init__(self, old: Old, things: Things, names: Names, expand: bool) -> None:
        self._old = old
        self._things = things
        self._names = names
        self._expand = expand
        self._plan = Plan()
        # There, and by the names of there: what is decided by whom. The order is that of the sources there.
        self._direct: dict[tuple[Who, Thing], str] = {}
        self._expanded: dict[tuple[Who, Thing], tuple[int, str]] = {}
        self._here: dict[Who, Who] = {}

    def plan(self, default: str) -> Plan:
        for person in self._old.people:
            self._person(person)
        for group in self._old.groups:
            self._group(group)
        for grant in self._old.grants:
            self._grant(grant)
        for pattern in self._old.patterns:
            self._pattern(pattern)
        for (who, thing), permission in self._direct.items():
            self._want(who, thing, permission)
        for (who, thing), (_, permission) in self._expanded.items():
            if not self._decided_before(who, thing):
                self._want(who, thing, permission)
        self._compare(default)
        return self._plan

    def _person(self, person: Person) -> None:
        name = self._names.users.get(person.name, person.name)
        problem = ""
        if not person.is_active:
            problem = "is not active there"
        elif name == self._names.bootstrap_admin:
            problem = "has the name that is reserved for MLflow's first administrator"
        elif name in self._names.local_accounts:
            problem = f"{name} is a local account of MLflow, with a password: delete it first"
        elif len(name) > NAME_CHARACTERS or not name.isprintable() or name != name.strip():
            problem = "has a name that an assertion can't have"
        if problem:
            self._plan.left_out.append(f"user {person.name}: {problem}")
            return
        self._here[Who("user", person.name)] = Who("user", name)
        if name not in self._plan.users:
            self._plan.users.append(name)
        if person.is_admin:
            groups = ", ".join(sorted(self._names.admin_groups))
            self._plan.notes.append(f"user {name} is an administrator there; here, members of {groups} are")
        if person.is_service:
            self._plan.notes.append(
                f"user {name} is a service account: here it has to be called as its client is at the provider"
                " (--map), and its passwords and tokens there are of no use"
            )

    def _group(self, group: str) -> None:
        name = role_name(group)
        if group_name(group) in self._names.admin_groups:
            self._plan.left_out.append(f"group {group}: its members are administrators here, and may do everything")
        elif name.startswith(RESERVED_ROLE) or not name:
            self._plan.left_out.append(f"group {group}: MLflow allows no role of this name")
        else:
            self._here[Who("group", group)] = Who("group", name)

    def _grant(self, grant: Grant) -> None:
        if grant.who not in self._here:
            self._plan.left_out.append(f"{grant}: the {grant.who.kind} is left out")
            return
        if problem := self._unusable(grant.kind, grant.permission, grant.workspace):
            self._plan.left_out.append(f"{grant}: {problem}")
            return
        thing = self._things.find(grant.kind, grant.key, grant.workspace)
        if thing is None:
            self._plan.left_out.append(f"{grant}: there is no such {grant.kind} in MLflow")
            return
        self._direct[grant.who, thing] = NAMES[grant.permission]

    def _pattern(self, pattern: Pattern) -> None:
        try:
            matching = self._matching(pattern)
        except re.error as error:
            self._plan.left_out.append(f"{pattern}: not a pattern: {error}")
            return
        names = ", ".join(str(thing) for thing in matching) or "nothing"
        if not self._expand:
            more = "; what it refuses is not refused here" if pattern.permission == "NO_PERMISSIONS" else ""
            self._plan.left_out.append(
                f"{pattern}: MLflow has no patterns. It fits today (--expand-patterns): {names}{more}"
            )
            return
        problem = self._unusable(pattern.kind, pattern.permission, None)
        if pattern.who not in self._here:
            problem = f"the {pattern.who.kind} is left out"
        if problem:
            self._plan.left_out.append(f"{pattern}: {problem}")
            return
        self._plan.notes.append(f"{pattern}: one permission for each that fits today: {names}. Not for new ones")
        for thing in matching:
            place, new = (pattern.who, thing), (pattern.priority, NAMES[pattern.permission])
            now = self._expanded.get(place)
            # There, the lowest number decides, and of those with the same number the strongest.
            if now is None or new[0] < now[0]:
                self._expanded[place] = new
            elif new[0] == now[0]:
                self._expanded[place] = (new[0], stronger(now[1], new[1]))

    def _matching(self, pattern: Pattern) -> list[Thing]:
        compiled = re.compile(pattern.regex)
        # There, a pattern need not fit the end of the name.
        return sorted(thing for thing in self._things.of(pattern.kind, pattern.workspace) if compiled.match(thing.name))

    def _unusable(self, kind: str, permission: str, workspace: str | None) -> str:
        if permission not in NAMES:
            return f"MLflow has no permission {permission!r}"
        if kind == "workspace" and not self._things.workspaces:
            return "workspaces are off in this MLflow"
        if kind == "workspace" and permission not in OF_WORKSPACES:
            return f"for a workspace, MLflow has only {' and '.join(OF_WORKSPACES)}"
        if not self._things.workspaces and workspace not in (None, DEFAULT_WORKSPACE):
            return f"it is of workspace {workspace}, and workspaces are off in this MLflow"
        return ""

    def _decided_before(self, who: Who, thing: Thing) -> bool:
        """There, a pattern counts only where no permission of its own does, of the user or of the user's groups."""
        if (who, thing) in self._direct:
            return True
        groups = self._old.members.get(who.name, set()) if who.kind == "user" else set()
        return any((Who("group", group), thing) in self._direct for group in groups)

    def _want(self, who: Who, thing: Thing, permission: str) -> None:
        place = (self._here[who], thing)
        self._plan.grants[place] = stronger(self._plan.grants.get(place), permission)

    def _compare(self, default: str) -> None:
        """There, the first source decides; here, everything is added up, and the default is the least."""
        things = sorted({thing for _, thing in self._plan.grants})
        for person in self._old.people:
            who = Who("user", person.name)
            if person.is_admin or who not in self._here:
                continue
            groups = sorted(self._old.members.get(person.name, set()))
            sources = [who, *(Who("group", group) for group in groups)]
            for thing in things:
                before = self._there(sources, thing)
                after = self._added_up(sources, thing)
                if thing.kind != "workspace" and after in LEVELS and default in LEVELS:
                    after = stronger(after, default)
                if before is not None and after is not None and before != after:
                    words = "more" if _rank(after) > _rank(before) else "less"
                    self._plan.differs.append(
                        f"{self._here[who].name} has {words} than there on {thing}: {after}, not {before}"
                    )

    def _there(self, sources: list[Who], thing: Thing) -> str | None:
        user, groups = sources[:1], sources[1:]
        for among in (user, groups):
            found = [self._direct[who, thing] for who in among if (who, thing) in self._direct]
            if found:
                return _fold(found)
        for among in (user, groups):
            tiers = [self._expanded[who, thing] for who in among if (who, thing) in self._expanded]
            if tiers:
                best = min(priority for priority, _ in tiers)
                return _fold(permission for priority, permission in tiers if priority == best)
        return None

    def _added_up(self, sources: list[Who], thing: Thing) -> str | None:
        found = [
            self._plan.grants[self._here[who], thing]
            for who in sources
            if who in self._here and (self._here[who], thing) in self._plan.grants
        ]
        return _fold(found) if found else None


def _fold(permissions: Iterable[str]) -> str:
    result: str | None = None
    for permission in permissions:
        result = stronger(result, permission)
    assert result is not None  # noqa: S101
    return result


def _rank(permission: str) -> int:
    return LEVELS.index(permission) if permission in LEVELS else -1
