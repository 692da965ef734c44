"""Lesson 1: the step rules raced on a real network, each at the rate that suits it."""

from __future__ import annotations

from nnopt_lab.experiments.conditions import Condition, Experiment
from nnopt_lab.optimizers import RULES
from nnopt_lab.training import TrainingSettings

RACE = TrainingSettings(epochs=2, batch_size=32, schedule="constant", evaluate_every_epochs=0.25)
"""Fixed rate, no weight decay (AdamW is then Adam), 626 steps on 10,000 pictures."""

RATES = {
    "gd": (0.01, 0.03, 0.1, 0.3),
    "momentum": (0.001, 0.003, 0.01, 0.03),
    "nesterov": (0.001, 0.003, 0.01, 0.03),
    "adagrad": (0.003, 0.01, 0.03, 0.1),
    "rmsprop": (0.0001, 0.0003, 0.001, 0.003),
    "adam": (0.0003, 0.001, 0.003, 0.01),
    "lion": (0.00003, 0.0001, 0.0003, 0.001),
}
"""Learning rates that each rule is offered, about a factor of 3 apart; all other hyperparameters are the rule's own."""

EXPERIMENTS = (
    Experiment(
        name="lesson01_race",
        about="Seven step rules train the articles' CNN, two epochs of 10,000 pictures, each at its best rate of four",
        conditions=tuple(
            Condition(
                name="SGD" if rule == "gd" else RULES[rule].title,
                model="article_cnn",
                settings=RACE,
                training_pictures=10_000,
                validation_pictures=2000,
                rule=rule,
                grid=tuple({"learning_rate": rate} for rate in rates),
            )
            for rule, rates in RATES.items()
        ),
        seeds=5,
    ),
)
