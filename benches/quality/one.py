"""One run, in a process of its own:

    python benches/quality/one.py RUN.json DATA_FOLDER RESULT.json

Its result has what two runs of the same settings have in common in "measured", and what they have not, seconds and
memory, in "cost".
"""

import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # so that modules here are found as a package, and hide nothing

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NEGFAST_NUM_THREADS", "RAYON_NUM_THREADS")


def result(plain: dict[str, Any], folder: Path) -> dict[str, Any]:
    from dataclasses import asdict

    import torch

    from quality.encoders import make
    from quality.evaluation import Examination
    from quality.learner import Learner
    from quality.prepared import load
    from quality.settings import Run
    from quality.split import some
    from quality.training import Training

    run = Run.of(plain)
    torch.set_num_threads(run.threads)
    torch.manual_seed(run.seed)
    prepared = load(folder)
    pairs = some(prepared.split.train, run.most)
    learner = Learner(run, prepared, pairs, make(run.encoder, prepared.vocabulary, run.seed))
    training = Training(learner)
    epochs, seconds = [], []
    curve = Examination(learner, "dev", run.curve) if run.curve else None
    for epoch in training.train():
        told = asdict(epoch)
        seconds.append(told.pop("seconds"))
        if curve is not None:
            found = curve.retrieval(curve.embedded())
            told["nDCG@10"] = {name: float(values["nDCG@10"].mean()) for name, values in found.items()}
        epochs.append(told)
    cost = {
        "seconds": dict(learner.clock.seconds),
        "by epoch": seconds,
        "peak bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    }
    asked = Examination(learner, run.part, run.most_questions)
    rows = asked.embedded()
    per_question = {
        name: {measure: values.round(6).tolist() for measure, values in found.items()}
        for name, found in asked.retrieval(rows).items()
    }
    measured = {
        "pairs": len(learner),
        "questions": asked.rows.tolist(),
        "corpus": len(asked.places),
        "steps": training.steps,
        "texts": dict(learner.clock.texts),
        "epochs": epochs,
        "retrieval": per_question,
        "embeddings": asked.embeddings(rows),
    }
    return {"run": plain, "measured": measured, "cost": cost}


def main() -> None:
    settings, folder, output = (Path(name) for name in sys.argv[1:])
    plain = json.loads(settings.read_text(encoding="utf-8"))
    for name in THREADS:
        os.environ[name] = str(plain["threads"])
    os.environ.update(TQDM_DISABLE="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")
    found = result(plain, folder)
    part = output.with_suffix(".part")
    part.write_text(json.dumps(found) + "\n", encoding="utf-8")
    part.replace(output)


if __name__ == "__main__":
    main()
