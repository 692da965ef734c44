"""Exercises that check themselves: each lesson's checks are in ``nnopt_lab.exercises.lessonNN``."""

from nnopt_lab.exercises.checking import Verdict, close, exercise, require, summary

__all__ = ["Verdict", "close", "exercise", "require", "summary"]
