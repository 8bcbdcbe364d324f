"""Beam search on toy tables: a wide beam is exhaustive, a narrow one greedy, and neighbours do not matter."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from asr.search.beam import Found, Step, search

NEVER = -math.inf


@dataclass(frozen=True)
class Prefixes:
    """State of the toy: which table each utterance reads, and the prefix of each hypothesis."""

    tables: tuple[int, ...]
    ids: Tensor                 # (B, K, u)


def note(prefix: tuple[int, ...]) -> float:
    """A number for a prefix, exact in float32."""
    return float(sum((i + 1) * 7 ** place for place, i in enumerate(prefix)) % 1_000_003)


class Toy:
    """Log probabilities drawn from (table, prefix); its note is the prefix read as a number."""

    def __init__(self, V: int = 4, *, forbid: frozenset[tuple[int, ...]] = frozenset(), sharp: float = 2.0) -> None:
        self.V, self.forbid, self.sharp = V, forbid, sharp
        self.rows: list[int] = []       # utterances in the batch at each step

    def of(self, table: int, prefix: tuple[int, ...]) -> Tensor:
        """(V,) log probabilities of what follows."""
        generator = torch.Generator().manual_seed(hash((table, prefix)) % 2**31)
        logits = self.sharp * torch.randn(self.V, generator=generator)
        for i in range(self.V):
            if (*prefix, i) in self.forbid:
                logits[i] = NEVER
        return logits.log_softmax(0)

    def start(self, *tables: int) -> Prefixes:
        return Prefixes(tables, torch.zeros(len(tables), 1, 0, dtype=torch.long))

    def step(self, last: Tensor, state: Prefixes) -> tuple[Step, Prefixes]:
        B, K, _ = state.ids.shape
        self.rows.append(B)
        prefixes = [[tuple(state.ids[b, k].tolist()) for k in range(K)] for b in range(B)]
        assert all(last[b, k] == (prefixes[b][k] or (0,))[-1] for b in range(B) for k in range(K))
        log_probs = torch.stack([torch.stack([self.of(state.tables[b], p) for p in prefixes[b]]) for b in range(B)])
        notes = torch.tensor([[[note(p)] for p in prefixes[b]] for b in range(B)])
        return Step(log_probs, notes), state

    def pick(self, state: Prefixes, rows: Tensor, ids: Tensor) -> Prefixes:
        K = state.ids.size(1)
        longer = torch.cat([state.ids.flatten(0, 1)[rows], ids.unsqueeze(2)], dim=2)
        tables = tuple(state.tables[b] for b in (rows[:, 0] // K).tolist())
        if len(tables) != len(state.tables):    # the beam keeps some utterances as they are
            longer = longer[:, :, :-1]
        return Prefixes(tables, longer)

    def score(self, table: int, ids: tuple[int, ...], *, end: bool = True) -> float:
        sequence = (*ids, 0) if end else ids
        return sum(float(self.of(table, sequence[:u])[i]) for u, i in enumerate(sequence))

    def all(self, table: int, longest: int, bonus: float = 0.0) -> list[tuple[float, tuple[int, ...]]]:
        """Every finished sequence up to a length, best first."""
        sequences = itertools.chain(*(itertools.product(range(1, self.V), repeat=n) for n in range(longest + 1)))
        return sorted(((self.score(table, ids) + bonus * len(ids), ids) for ids in sequences), reverse=True)


def check(toy: Toy, table: int, found: Found, bonus: float = 0.0) -> None:
    """A hypothesis tells the truth of itself."""
    ids = tuple(found.ids)
    assert found.score == pytest.approx(toy.score(table, ids, end=found.ended == "eos") + bonus * len(ids), abs=1e-5)
    steps = (*ids, 0) if found.ended == "eos" else ids
    assert found.log_probs == pytest.approx([float(toy.of(table, steps[:u])[i]) for u, i in enumerate(steps)], abs=1e-5)
    assert found.notes[:, 0].tolist() == [note(steps[:u]) for u in range(len(steps))]


@pytest.mark.parametrize("table", range(6))
def test_a_wide_beam_is_exhaustive(table: int) -> None:
    toy = Toy()
    found = search(toy, toy.start(table), [4], width=200, nbest=7)[0]
    expected = toy.all(table, 4)[:7]
    assert [tuple(f.ids) for f in found] == [ids for _, ids in expected]
    assert [f.score for f in found] == pytest.approx([score for score, _ in expected], abs=1e-5)
    for each in found:
        check(toy, table, each)


def test_width_one_is_greedy() -> None:
    toy = Toy(sharp=1.0)
    for table in range(20):
        ids: tuple[int, ...] = ()
        while len(ids) < 12 and (best := int(toy.of(table, ids).argmax())):
            ids = (*ids, best)
        found = search(toy, toy.start(table), [12], width=1)[0][0]
        assert tuple(found.ids) == ids
        check(toy, table, found)


@pytest.mark.parametrize("width", [1, 2, 5])
def test_neighbours_do_not_matter(width: int) -> None:
    toy, tables, limits = Toy(), list(range(8)), [3, 9, 1, 6, 0, 9, 2, 9]
    together = search(toy, toy.start(*tables), limits, width=width, nbest=2)
    for table, limit, found in zip(tables, limits, together, strict=True):
        alone = search(toy, toy.start(table), [limit], width=width, nbest=2)[0]
        assert [(f.ids, f.ended) for f in found] == [(f.ids, f.ended) for f in alone]
        assert [f.score for f in found] == pytest.approx([f.score for f in alone], abs=1e-9)
        for each in found:
            check(toy, table, each)


def test_utterances_that_are_finished_leave_the_batch() -> None:
    toy = Toy()
    search(toy, toy.start(0, 1, 2, 3), [0, 2, 9, 9], width=1)
    assert toy.rows[0] == 4
    assert toy.rows == sorted(toy.rows, reverse=True)
    assert toy.rows[1] < 4


def test_a_limit_cuts_what_has_not_ended() -> None:
    endless = frozenset((*ids, 0) for n in range(5) for ids in itertools.product((1, 2, 3), repeat=n))
    toy = Toy(forbid=endless)
    found = search(toy, toy.start(0), [3], width=50, nbest=4)[0]
    expected = sorted(((toy.score(0, ids, end=False), ids) for ids in itertools.product((1, 2, 3), repeat=3)),
                      reverse=True)[:4]
    assert [(tuple(f.ids), f.ended) for f in found] == [(ids, "limit") for _, ids in expected]
    for each in found:
        check(toy, 0, each)
    nothing = search(toy, toy.start(0), [0], width=2)[0]
    assert [(f.ids, f.score, f.ended, len(f.notes)) for f in nothing] == [([], 0.0, "limit", 0)]


def test_what_has_ended_is_preferred_at_the_limit() -> None:
    toy = Toy()
    for table in range(6):
        found = search(toy, toy.start(table), [2], width=50)[0]
        assert [f.ended for f in found] == ["eos"]
        assert tuple(found[0].ids) == toy.all(table, 2)[0][1]


def test_the_shortest_length() -> None:
    toy = Toy()
    for table in range(6):
        found = search(toy, toy.start(table), [4], width=200, nbest=3, shortest=[2])[0]
        expected = [ids for _, ids in toy.all(table, 4) if len(ids) >= 2][:3]
        assert [tuple(f.ids) for f in found] == expected


def test_a_bonus_for_every_phone() -> None:
    toy = Toy()
    for table in range(6):
        found = search(toy, toy.start(table), [4], width=400, nbest=400, bonus=1.5)[0]
        assert tuple(found[0].ids) == toy.all(table, 4, 1.5)[0][1]
        check(toy, table, found[0], 1.5)
        assert len(found) == 3 ** 0 + 3 + 9 + 27 + 81


def test_rows_that_are_forbidden_altogether() -> None:
    """A prefix that nothing may follow dies; the others go on."""
    dead = frozenset((1, i) for i in range(4))
    class WithDead(Toy):
        def of(self, table: int, prefix: tuple[int, ...]) -> Tensor:
            return torch.full((self.V,), NEVER) if prefix[:1] == (1,) else super().of(table, prefix)
    toy = WithDead(forbid=dead)
    found = search(toy, toy.start(3), [4], width=200, nbest=5)[0]
    expected = [ids for _, ids in toy.all(3, 4) if ids[:1] != (1,)][:5]
    assert [tuple(f.ids) for f in found] == expected
    assert not any(math.isnan(f.score) for f in found)


def test_nothing_at_all_can_be_said() -> None:
    class Mute(Toy):
        def of(self, table: int, prefix: tuple[int, ...]) -> Tensor:
            return torch.full((self.V,), NEVER)
    toy = Mute()
    found = search(toy, toy.start(0, 1), [4, 4], width=3)
    assert [[(f.ids, f.score, f.ended) for f in each] for each in found] == [[([], 0.0, "limit")]] * 2


def test_no_utterances_and_no_phones() -> None:
    assert search(Toy(), Toy().start(), [], width=3) == []
    found = search(Toy(V=1), Toy(V=1).start(0), [5], width=3)[0]
    assert [(f.ids, f.ended) for f in found] == [([], "eos")]


def test_empty_places_of_the_beam_mirror_the_best() -> None:
    """What sits in an empty place must not differ from all that live: the stepper's guards look at every place."""
    seen: list[tuple[Tensor, Tensor]] = []
    class Watching(Toy):
        def pick(self, state: Prefixes, rows: Tensor, ids: Tensor) -> Prefixes:
            seen.append((rows, ids))
            return super().pick(state, rows, ids)
    only = frozenset((*ids, i) for n in range(4) for ids in itertools.product((1, 2, 3), repeat=n) for i in (0, 2, 3))
    toy = Watching(forbid=only)
    search(toy, toy.start(0), [3], width=3)
    for rows, ids in seen[:3]:
        assert ids.tolist() == [[1] * ids.size(1)]
        assert rows.tolist() == [[0] * rows.size(1)]


class Leading(Toy):
    """A toy whose hypotheses are ahead by so much for every id 2 that they hold."""

    def __init__(self, lead: float) -> None:
        super().__init__()
        self.lead = lead

    def step(self, last: Tensor, state: Prefixes) -> tuple[Step, Prefixes]:
        step, state = super().step(last, state)
        return step._replace(lead=self.lead * (state.ids == 2).sum(dim=2)), state


class Detour(Leading):
    """What begins with 1 looks better for two steps, and has nothing to say then."""

    def of(self, table: int, prefix: tuple[int, ...]) -> Tensor:
        if not prefix:
            return torch.tensor([0, 0.55, 0.45, 0]).log()
        if len(prefix) == 1:
            return torch.tensor([0, 0.5, 0, 0.5]).log()
        if len(prefix) == 2:
            return torch.tensor([0.9, 0.1, 0, 0] if prefix[0] == 2 else [0.1, 0.3, 0.3, 0.3]).log()
        return torch.tensor([1.0, 0, 0, 0]).log()


@pytest.mark.parametrize("lead", [0.5, 3.0, -3.0])
def test_a_lead_counts_while_the_best_are_chosen_and_not_in_the_score(lead: float) -> None:
    toy, plain = Leading(lead), Leading(0.0)
    wide = [search(some, some.start(0, 1), [3, 3], width=200, nbest=3) for some in (toy, plain)]
    assert [[(found.ids, found.score) for found in best] for best in wide[0]] == \
        [[(found.ids, found.score) for found in best] for best in wide[1]]
    for table, [found] in enumerate(search(toy, toy.start(0, 1), [4, 4], width=2)):
        check(toy, table, found)


def test_a_lead_keeps_what_has_come_further() -> None:
    """Of two hypotheses with as many ids, the one that said less of the speech does not crowd the other out."""
    found = [search(Detour(lead), Detour(lead).start(0), [3], width=2)[0][0] for lead in (0.0, 0.5)]
    assert found[0].ids[0] == 1
    assert (found[1].ids[0], len(found[1].ids)) == (2, 2)
    assert found[1].score == pytest.approx(math.log(0.45 * 0.5 * 0.9))
    assert found[1].score > found[0].score
