"""The experiment end to end on texts made for it: the same numbers twice, a stop that is gone on from, tables."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("tokenizers")
pytest.importorskip("ir_measures")
pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

import torch

from quality import one, report, tables
from quality.arms import ARMS, BASE, WHOLE, Arm
from quality.data import Pairs
from quality.experiment import leading
from quality.plans import LEADERS, LONGER, PLANS, Stage, runs
from quality.prepared import load, prepare
from quality.record import Record
from quality.runner import Job, OutOfTimeError, Runner
from quality.settings import Encoder, Run, transformer

ENCODER = Encoder(dim=16, vocabulary=300, learning_rate=0.05)


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make pairs of queries and passages with two words in common, in groups of three that share one of them."""
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefgh"), 5)) for _ in range(200)]
    groups = np.arange(600) // 3
    queries, passages = [], []
    for i, group in enumerate(groups.tolist()):
        shared, own = words[group % 200], words[(7 * i + 3) % 200]
        queries.append(f"{shared} {own} query {i % 11}")
        passages.append(f"{own} {shared} {words[rng.integers(200)]}")
    labels = [f"label {group % 4}" for group in groups.tolist()]
    names = [f"source {group}" for group in groups.tolist()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NEGFAST_BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        return prepare("made", Pairs(queries, passages, names, names, labels), ENCODER)


def settings(arm: str | Arm, **changes: Any) -> Run:
    run = Run("made", ENCODER, ARMS[arm] if isinstance(arm, str) else arm, 0, epochs=2, batch_size=64, curve=20)
    return replace(run, **changes)


def small(name: str) -> Arm:
    """Return an arm with lists and a bank that fit so few pairs."""
    arm = ARMS[name]
    return replace(arm, depth=min(arm.depth, 10), bank=min(arm.bank, 128), bank_negatives=8, memory=128)


def test_two_runs_of_one_seed_give_the_same_numbers_and_another_seed_others(folder: Path) -> None:
    run = settings(small(WHOLE))
    first, again = (one.result(run.plain(), folder)["measured"] for _ in range(2))
    assert first == again
    assert one.result(replace(run, seed=1).plain(), folder)["measured"]["retrieval"] != first["retrieval"]


@pytest.mark.parametrize(
    "name", [BASE, "random", "nearest, each epoch", "negfast: guards", "negfast: guards, refresh", "all without guards"]
)
def test_every_kind_of_arm_learns(folder: Path, name: str) -> None:
    found = one.result(settings(small(name)).plain(), folder)
    measured = found["measured"]
    shares = measured["epochs"][-1]["false"]
    assert np.mean(measured["retrieval"]["strict"]["nDCG@10"]) > 0.3  # chance is below .02
    assert measured["epochs"][-1]["loss"] < measured["epochs"][0]["loss"]
    if name == "negfast: guards":
        assert shares["chosen"] == 0.0
    if name == "nearest, each epoch":
        assert shares["chosen"] > 0.05  # the two others of an anchor's group are nearest to it
    assert found["cost"]["seconds"]["train"] > 0 and found["cost"]["peak bytes"] > 1e7


@pytest.mark.parametrize("name", ["sentence-transformers, each epoch", "cross-batch memory"])
def test_arms_of_other_libraries_learn(folder: Path, name: str) -> None:
    for package in ("sentence_transformers", "faiss", "pytorch_metric_learning"):
        pytest.importorskip(package)
    measured = one.result(settings(small(name)).plain(), folder)["measured"]
    assert np.mean(measured["retrieval"]["strict"]["nDCG@10"]) > 0.3


def test_arms_differ_in_nothing_but_their_negatives(folder: Path) -> None:
    arms = [replace(small("random"), num_negatives=0), small(BASE)]
    first, second = (one.result(settings(arm).plain(), folder)["measured"] for arm in arms)
    assert first["retrieval"] == second["retrieval"]


@pytest.mark.parametrize("name", ARMS)
def test_arms_go_through_json(name: str) -> None:
    run = settings(name)
    assert Run.of(json.loads(json.dumps(run.plain()))) == run


def test_arms_of_everything_less_a_part_differ_from_it() -> None:
    arms = [*ARMS.values()]
    assert all(arm not in arms[:place] for place, arm in enumerate(arms))


def tiny_transformer(texts: list[str], path: Path) -> Encoder:
    from tokenizers import Tokenizer, models, pre_tokenizers

    transformers = pytest.importorskip("transformers")
    words = ["[PAD]", "[UNK]", *sorted({word for text in texts for word in text.split()})]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(path / "tokenizer.json"))
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    torch.manual_seed(0)
    transformers.BertModel(transformers.BertConfig(vocab_size=len(words), **sizes)).save_pretrained(path)
    return replace(transformer(str(path)), learning_rate=0.01)


def test_a_transformer_learns_and_does_not_drop_out(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = load(folder).pairs
    encoder = tiny_transformer([*pairs.queries, *pairs.passages], tmp_path)
    monkeypatch.setenv("NEGFAST_BENCH_CACHE", str(tmp_path))
    own = prepare("made", pairs, encoder)
    run = settings(small("negfast: guards"), encoder=encoder, epochs=1, most_questions=30, most_corpus=100)
    first, again = (one.result(run.plain(), own)["measured"] for _ in range(2))
    assert first == again and len(first["questions"]) == 30 and first["corpus"] == 100
    before = one.result(replace(run, epochs=0).plain(), own)["measured"]
    ndcg = [np.mean(found["retrieval"]["strict"]["nDCG@10"]) for found in (before, first)]
    assert ndcg[0] < ndcg[1]


STUB = """
import json, sys, pathlib
run = json.loads(pathlib.Path(sys.argv[1]).read_text())
if run["seed"] == 13: sys.exit("unlucky")
log = pathlib.Path(sys.argv[3]).parent / "log"
log.write_text((log.read_text() if log.exists() else "") + str(run["seed"]) + " ")
pathlib.Path(sys.argv[3]).write_text(json.dumps({"run": run}))
"""


def runner(path: Path, **changes: Any) -> Runner:
    options = {"processes": 1, "minutes": 1.0, "command": (sys.executable, "-c", STUB)} | changes
    return Runner(path, {"python": "1"}, **options)


def jobs(*seeds: int, fingerprint: str = "f") -> list[Job]:
    return [Job(settings(BASE, seed=seed), Path("data"), fingerprint) for seed in seeds]


def test_runs_that_are_done_are_not_run_again(tmp_path: Path) -> None:
    assert [one["run"]["seed"] for one in runner(tmp_path).results(jobs(0, 1))] == [0, 1]
    assert [one["run"]["seed"] for one in runner(tmp_path).results(jobs(2, 1, 0))] == [2, 1, 0]
    assert (tmp_path / "log").read_text().split() == ["0", "1", "2"]


def test_other_data_and_versions_are_other_runs() -> None:
    (job,), (other,) = jobs(0), jobs(0, fingerprint="g")
    keys = {job.key({"a": "1"}), other.key({"a": "1"}), job.key({"a": "2"}), jobs(1)[0].key({"a": "1"})}
    assert len(keys) == 4 and job.key({"a": "1"}) in keys
    changed = replace(job.run, arm=replace(job.run.arm, num_negatives=5))
    assert Job(changed, job.data, job.fingerprint).key({"a": "1"}) not in keys


def test_no_run_begins_after_the_time_is_spent(tmp_path: Path) -> None:
    runner(tmp_path).results(jobs(0))
    late = runner(tmp_path, minutes=-1.0)
    assert late.results(jobs(0))  # it is there already
    with pytest.raises(OutOfTimeError):
        late.results(jobs(0, 1))
    assert (tmp_path / "log").read_text().split() == ["0"]


def test_a_run_that_fails_is_told_with_its_words(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="unlucky"):
        runner(tmp_path).results(jobs(13))


def made_result(arm: str, ndcg: list[float], *, seconds: float = 10.0, encode: float = 0.0, texts: int = 100) -> Any:
    values = dict.fromkeys(report.MEASURES, ndcg)
    epochs = [{"step": 5, "loss": 1.0, "false": {"chosen": 0.25}, "tiers": {"hard": 3, "easy": 1}, "hardness": None,
               "nDCG@10": {"strict": ndcg[0]}}] * 2  # fmt: skip
    return {
        "run": settings(arm).plain(),
        "measured": {
            "retrieval": dict.fromkeys(report.KINDS, values), "steps": 5, "texts": {"steps": texts}, "epochs": epochs,
            "embeddings": dict.fromkeys(report.EMBEDDINGS, 0.5),
        },
        "cost": {"seconds": {"train": seconds, "encode": encode}, "by epoch": [5.0, 10.0], "peak bytes": 1e9},
    }  # fmt: skip


def made_results() -> report.Results:
    by_arm = {
        BASE: [made_result(BASE, [0.2, 0.4]), made_result(BASE, [0.4, 0.4])],
        "random": [made_result("random", ndcg, seconds=14, texts=140) for ndcg in ([0.3, 0.5], [0.5, 0.5])],
        LONGER: [made_result(BASE, [0.5, 0.5], seconds=20, texts=200) for _ in range(2)],
        WHOLE: [made_result(WHOLE, [0.6, 0.6], seconds=16, encode=4, texts=150) for _ in range(2)],
    }
    return report.Results(by_arm, np.array([0, 1]))


def test_tables_say_what_runs_said() -> None:
    base, random, longer, whole = report.retrieval(made_results(), "strict")
    assert base["nDCG@10"]["mean"] == pytest.approx(0.35) and f"over {BASE}" not in base
    assert random[f"over {BASE}"]["mean"] == pytest.approx(0.1)
    assert whole[f"over {BASE}"]["mean"] == pytest.approx(0.25)
    assert whole["over best other"]["other"] == "random"
    assert whole["over best other"]["mean"] == pytest.approx(0.15)
    # 20 seconds, less 4 for lists and 50 texts at a tenth of a second, as 40 of the random arm took 4, over 10.
    assert whole["over equal seconds"]["mean"] == pytest.approx(0.1) and "over best other" not in longer
    assert report.costs(made_results())[3]["beyond texts"]["median"] == pytest.approx(1.1)
    lines = tables.text([random, whole]).splitlines()
    assert "45.00 [" in lines[1] and "+10.00 [" in lines[1] and len(lines) == 3
    assert tables.markdown([random]).splitlines()[1].count("---") == len(tables.cells([random])[0])


def test_a_record_has_every_table_with_its_command(tmp_path: Path) -> None:
    record = Record(tmp_path, "tiny", command="make tiny", versions={"python": "3"}, budget=["1 run"])
    about = {
        "pairs": 1, "questions": 2, "corpus": 3, "part": "test", "seeds": 2, "data": "made", "fingerprint": "f",
        "settings": settings(BASE).plain(), "longer": 2, "whole takes": report.times_as_long(made_results(), WHOLE),
    }  # fmt: skip
    record.add("test-made", about, made_results())
    text = record.write()
    assert "took 2.0 times as long" in text and "make tiny" in text and "over best other" in text and "nan" not in text
    plain = json.loads((tmp_path / "tiny.json").read_text())
    assert set(plain["stages"]["test-made"]["tables"]) == {"strict", "group-aware", "embeddings", "costs"}
    pictures = {path.name for path in tmp_path.glob("*.svg")}
    assert pictures == {f"tiny-test-made-{kind}.svg" for kind in ("learning", "gains", "false-negatives", "tiers")}


def test_leaders_are_the_best_of_negfast_over_all_data() -> None:
    values = {BASE: 0.9, "negfast: guards": 0.5, WHOLE: 0.8, "all without bank": 0.4, "random": 0.7}
    first = {name: [made_result(name, [value])] for name, value in values.items()}
    second = {**first, "all without bank": [made_result("all without bank", [0.7])]}
    found = {"a": report.Results(first, np.array([0])), "b": report.Results(second, np.array([0]))}
    assert leading(found, 1) == ("all without bank",)
    assert leading(found, 2) == ("all without bank", "negfast: guards")


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_plans_keep_to_their_time_on_two_processors(plan: Any) -> None:
    assert plan.estimate(2) <= plan.minutes
    screened = [stage for stage in plan.stages if stage.part == "dev" and not stage.temperatures]
    assert screened and all(stage.part == "dev" for stage in plan.stages if stage.temperatures)


def test_runs_of_more_epochs_count_as_many() -> None:
    stage = Stage(name="x", data=("a", "b"), arms=(BASE, LEADERS), seeds=2, seconds=1, longer=3)
    assert runs(stage, 2) == (1 + 2 + 3) * 2 * 2
    assert LONGER not in ARMS


def test_what_is_kept_of_the_data_is_read_again(folder: Path) -> None:
    prepared = load(folder)
    assert len(prepared.queries) == len(prepared.passages) == len(prepared.pairs.queries) == 600
    assert prepared.fingerprint == load(folder).fingerprint
