"""Commands of OptPO: votes studied on stored pools and by simulation, test-time training, and its tables."""

from pathlib import Path
from typing import Annotated

import typer

from itscale.cli.options import Choices, GradingJson, Out, OutFolder, Seed, app, settings_of, step


@step.command()
def vote_guarantees(seed: Seed, out: Out) -> None:
    """Simulate what a vote's guarantee is worth where wrong answers cluster, which its model says they do not."""
    from itscale.data.tables import write_csv
    from itscale.studies.votes import guarantees

    table = guarantees(seed)
    write_csv(out, table)
    print(table.to_string(index=False))


@step.command()
def vote_study(
    benchmark: Annotated[str, typer.Option(help="Name of the benchmark, for the tables.")],
    pool: Annotated[Path, typer.Option(help="Parallel pool of the benchmark.")],
    calibration: Annotated[Path, typer.Option(help="Grades of the calibration split's parallel samples, which say p0 and m.")],
    seed: Seed,
    out: OutFolder,
    orders: Annotated[int, typer.Option(min=1, help="Random orders per problem; 1 is the order of submission.")] = 100,
    eps: Annotated[float, typer.Option(help="Nominal error of the rules that promise one.")] = 0.05,
    choices: Choices = None,
) -> None:
    """Sweep the vote lead on a pool beside its theory, measure promised errors, and count votes to stop; writes three tables.

    Errors are of votes on half of a question's samples, assessed by the plurality of the other half. Promises of 2 EPS, EPS and
    EPS / 5 are measured (promises.csv, a row a rule and promise).
    """
    from itscale.data.records import Unit, read_pool, read_votes
    from itscale.data.tables import write_csv
    from itscale.errors import UserError
    from itscale.policies import make_policy
    from itscale.policies.calibration import known_of_votes
    from itscale.studies.votes import lead_sweep, promises, votes_to_stop

    samples = read_pool(pool, Unit.SAMPLE)
    bound = known_of_votes(read_votes(calibration), choices)
    known = bound.votes
    limit = samples.size
    if limit < 2:
        raise UserError(f"{pool} holds one sample per problem and a vote needs two: make the pool with `samples: 2` or more.")
    sweep = lead_sweep(samples, known, (1, 2, 3, 4, 5, 6, 8, 12), benchmark=benchmark, orders=orders, seed=seed)
    write_csv(out / "vote_sweep.csv", sweep)
    settings = {"vote_lead": {"lead": min(4, limit)}, "vote_certified": {"delta": eps}}
    settings |= {slug: {"eps": eps} for slug in ("vote_posterior", "vote_heuristic", "vote_dirichlet", "vote_bayes")}
    rules = {slug: make_policy(slug, n_max=limit, **chosen).bind(bound) for slug, chosen in settings.items()}
    write_csv(out / "votes_to_stop.csv", votes_to_stop(samples, rules, benchmark=benchmark, orders=orders, seed=seed))
    table = promises(samples, bound, (2 * eps, eps, eps / 5), benchmark=benchmark, orders=min(orders, 32), seed=seed)
    write_csv(out / "promises.csv", table)
    print(f"calibration: p0 = {known.p0:.3f}, m = {known.options}")
    print(sweep.to_string(index=False))
    shown = ["rule", "promised", "error_of_stopped", "error_of_stopped_low", "error_of_stopped_high", "stopped", "rollouts"]
    print(table[shown].to_string(index=False, float_format="%.4g"))


@app.command()
def train_on_votes(
    name: Annotated[str, typer.Option(help="Name of the run.")],
    model: Annotated[Path, typer.Option(help="Language model folder.")],
    problems: Annotated[Path, typer.Option(help="Problems that are trained on; their answers are read for analysis only.")],
    untouched: Annotated[Path, typer.Option(help="Problems that are not trained on: is anything forgotten?")],
    calibration: Annotated[Path, typer.Option(help="Grades of the calibration split's parallel samples: p0 and m.")],
    seed: Seed,
    out: OutFolder,
    settings: Annotated[str, typer.Option(help="RunSettings as JSON.")] = "{}",
    evaluation: Annotated[str, typer.Option(help="EvaluationSettings as JSON.")] = "{}",
    sampling: Annotated[str, typer.Option(help="Sampling of the rollouts as JSON.")] = "{}",
    engine: Annotated[str, typer.Option(help="EngineSettings as JSON, but for the model.")] = "{}",
    grading: GradingJson = "{}",
    choices: Choices = None,
) -> None:
    """Train a model on a benchmark without its answers: the consensus of each vote is the label.

    A killed run goes on from its last checkpoint with the same curve. Writes metrics.jsonl (a line a step), evaluation.csv (a
    row a problem, step and benchmark), run.json, and the model after the last and after the best step.
    """
    from itscale.data.records import read_problems, read_votes
    from itscale.engines import EngineSettings
    from itscale.engines.protocol import Sampling
    from itscale.grading.settings import Grading
    from itscale.policies.calibration import known_of_votes
    from itscale.sources.datasets import refuse_overlap
    from itscale.testtime.evaluation import EvaluationSettings
    from itscale.testtime.settings import RunSettings

    trained, others = read_problems(problems), read_problems(untouched)
    # What is forgotten is measured on questions that were not trained on.
    refuse_overlap({f"--problems {problems}": trained, f"--untouched {untouched}": others})
    chosen = settings_of(RunSettings, settings, "--settings")

    from itscale.testtime.train import Job, train  # takes its time, so mistakes are said before

    job = Job(
        model=model,
        trained=trained,
        untouched=others,
        settings=chosen,
        evaluation=settings_of(EvaluationSettings, evaluation, "--evaluation"),
        sampling=settings_of(Sampling, sampling, "--sampling"),
        engine=settings_of(EngineSettings, engine, "--engine", model=str(model)),
        known=known_of_votes(read_votes(calibration), choices),
        seed=seed,
        name=name,
        grading=settings_of(Grading, grading, "--grading"),
    )
    train(job, out)


@step.command()
def training_tables(
    runs: Annotated[list[Path], typer.Argument(help="Folders that `itscale train-on-votes` wrote.")],
    out: OutFolder,
    baseline: Annotated[str, typer.Option(help="The run that the others are compared with.")] = "ttrl",
) -> None:
    """Put runs together: summary, comparison with no training, evaluations against tokens, figures of every step, every seed."""
    from itscale.data.records import write_atomic
    from itscale.data.tables import write_csv
    from itscale.testtime import report

    steps, evaluations, table = report.read_runs(runs)
    summary = report.summary(steps, evaluations, table, baseline)
    write_csv(out / "summary.csv", summary)
    compared = report.comparison(steps, evaluations, table, baseline)
    write_csv(out / "comparison.csv", compared)
    write_csv(out / "curves.csv", report.curves(steps, evaluations))
    write_csv(out / "steps.csv", report.step_means(steps))
    write_csv(out / "seeds.csv", report.per_seed(evaluations, table, baseline))
    write_atomic(out / "comparison.md", report.comparison_markdown(compared).encode())
    text = report.markdown(summary)
    write_atomic(out / "summary.md", text.encode())
    print(text)


@step.command()
def choose_learning_rate(
    runs: Annotated[list[Path], typer.Argument(help="Runs on the calibration problems that differ in their learning rate.")],
    used: Annotated[float, typer.Option(help="The learning rate that the configuration trains with.")],
    out: Out,
) -> None:
    """Name the learning rate whose runs on the calibration problems end with the highest mean accuracy.

    Calibration problems have answers, so they may be read for this; the benchmark that is trained on later is not touched.
    """
    from itscale.data.tables import write_csv
    from itscale.testtime import report

    table = report.learning_rates(runs, used)
    write_csv(out, table)
    print(table.to_string(index=False))
    if not (table["chosen"] & table["used"]).any():
        best = table.loc[table["chosen"], "learning_rate"].iloc[0]
        print(f"the configuration trains with {used:g}, but {best:g} did best on the calibration problems")
