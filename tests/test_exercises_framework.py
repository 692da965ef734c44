"""A check never raises, cannot be talked into passing, and tells what is wrong."""

from __future__ import annotations

import threading
import time
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nnopt_lab.exercises import Verdict, close, exercise, require, summary

SIZE_HINT = "a kernel of 5 fits at 28 places"


@exercise(title="Output size", points=2, minutes=5)
def output_size(answer) -> None:
    """The reference check of these tests."""
    require(close(answer(32, kernel=5), 28), SIZE_HINT)


class EqualsEverything:
    """The usual attempt to fool a checker."""

    def __eq__(self, other: object) -> bool:
        return True

    def __bool__(self) -> bool:
        return True

    def __float__(self) -> float:
        return 28.0

    def __sub__(self, other: object) -> int:
        return 0

    def __call__(self, *_: object, **__: object) -> EqualsEverything:
        return self


class FloatThatLies(float):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = float.__hash__


class TensorThatLies(torch.Tensor):
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return torch.tensor(True)


def right(pixels: int, kernel: int) -> int:
    return pixels - kernel + 1


def stub(pixels: int, kernel: int) -> int:
    raise NotImplementedError("your code here")


def breaks(pixels: int, kernel: int) -> int:
    size = pixels - kernel
    return size + "1"


def test_right_answer_passes():
    verdict = output_size(right)
    assert (verdict.attempted, verdict.passed, verdict.earned, verdict.message) == (True, True, 2, "")
    assert repr(verdict) == "✓ Output size: passed (2 of 2 points)"


@pytest.mark.parametrize("answer", [stub, None, ...])
def test_stub_is_not_attempted(answer):
    verdict = output_size(answer)
    assert (verdict.attempted, verdict.passed, verdict.earned) == (False, False, 0)
    assert repr(verdict) == "· Output size: not attempted yet (2 points)"


def test_no_answer_at_all_is_not_attempted():
    assert not output_size().attempted


def test_wrong_answer_gets_the_hint():
    verdict = output_size(lambda pixels, kernel: pixels - kernel)
    assert verdict.attempted and not verdict.passed and verdict.message == SIZE_HINT
    assert repr(verdict) == f"✗ Output size: not yet right (0 of 2 points)\n  Hint: {SIZE_HINT}"


def test_error_in_students_code_names_the_line():
    message = output_size(breaks).message
    assert message.startswith("your code raised TypeError: unsupported operand")
    assert message.endswith("(line 3 of your function 'breaks')")


def test_error_deep_in_a_library_names_the_students_line():
    def multiplies_wrong_shapes(pixels: int, kernel: int) -> torch.Tensor:
        left = torch.zeros(2, 3)
        return torch.nn.functional.linear(left, left.T)

    message = output_size(multiplies_wrong_shapes).message
    assert "raised RuntimeError" in message and "(line 3 of your function 'multiplies_wrong_shapes')" in message


def test_wrong_signature_is_explained():
    assert "cannot be used: TypeError" in output_size(lambda: 28).message


def test_answer_that_is_not_callable_is_explained():
    assert "cannot be used: TypeError: 'int' object is not callable" in output_size(28).message


def test_library_that_lacks_something_is_not_taken_for_a_stub():
    class NoForward(torch.nn.Module):
        pass

    @exercise(title="Module", points=1, minutes=1)
    def module(answer) -> None:
        require(answer(torch.zeros(1)) is not None, "")

    verdict = module(NoForward())
    assert verdict.attempted and "NotImplementedError" in verdict.message


def test_exit_in_students_code_is_told():
    def leaves(pixels: int, kernel: int) -> int:
        raise SystemExit(0)

    assert "SystemExit" in output_size(leaves).message


def test_interrupt_by_the_reader_goes_through():
    def interrupted(pixels: int, kernel: int) -> int:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        output_size(interrupted)


def test_endless_loop_is_stopped_even_if_it_swallows_errors():
    @exercise(title="Quick", points=1, minutes=1, limit_s=0.2)
    def quick(answer) -> None:
        require(close(answer(), 1), "one")

    def endless() -> int:
        while True:
            try:
                time.sleep(0.01)
            except Exception:  # what a student might write
                continue

    began = time.monotonic()
    assert "was stopped after 0.2 s" in quick(endless).message
    assert time.monotonic() - began < 5


def test_check_works_on_another_thread():
    verdicts: list[Verdict] = []
    thread = threading.Thread(target=lambda: verdicts.append(output_size(right)))
    thread.start()
    thread.join()
    assert verdicts[0].passed


@pytest.mark.parametrize(
    "fake", [EqualsEverything(), FloatThatLies(1), torch.ones(()).as_subclass(TensorThatLies), True]
)
def test_answers_that_claim_to_be_equal_do_not_pass(fake):
    assert not output_size(fake if callable(fake) else lambda *_, **__: fake).passed


def test_require_takes_only_plain_truth():
    @exercise(title="Truth", points=1, minutes=1)
    def truth(answer) -> None:
        require(answer, "not true")

    for accepted in (True, np.bool_(True), torch.tensor(True), np.array(True)):
        assert truth(accepted).passed
    for refused in (False, 1, "yes", [True], EqualsEverything(), torch.tensor([True, True]), torch.tensor(1.0)):
        assert truth(refused).message == "not true"


@pytest.mark.parametrize(
    "actual, expected",
    [
        (28, 28.0),
        (np.float32(0.1), 0.1),
        (torch.tensor([1.0, 2.0]), [1, 2]),
        ((1, 2), torch.tensor([1, 2])),
        (np.arange(4).reshape(2, 2), [[0, 1], [2, 3]]),
        (torch.nn.Parameter(torch.ones(3)), torch.ones(3)),
        ("relu", "relu"),
        (True, True),
        ([], torch.zeros(0)),
    ],
)
def test_close_takes_every_usual_kind(actual, expected):
    assert close(actual, expected) is True


@pytest.mark.parametrize(
    "actual, expected, message",
    [
        (None, 1, "your answer is None: does the function return its result?"),
        (torch.ones(3, 2), torch.ones(2, 3), "your answer has shape (3, 2); it should be (2, 3)."),
        (torch.ones(1), 1.0, "your answer has shape (1,); it should be that of a single number."),
        ("28", 28, "your answer is of type str; it should be a number."),
        ([[1], [1, 2]], [1, 2], "your answer is of type list; it should be numbers of shape (2,)."),
        (1, True, "your answer is of type int; it should be bool."),
        (1j, 1, "your answer is of type complex; it should be a number."),
        (np.array(["1", "2"]), [1, 2], "your answer is of type ndarray; it should be numbers of shape (2,)."),
        (np.timedelta64(1), 1, "your answer is of type timedelta64; it should be a number."),
    ],
)
def test_close_explains_wrong_kinds_and_shapes(actual, expected, message):
    @exercise(title="Close", points=1, minutes=1)
    def check(answer) -> None:
        close(answer[0], expected)

    assert check([actual]).message == message


@pytest.mark.parametrize("actual", [float("nan"), float("inf"), 28.1, torch.tensor(float("nan"))])
def test_close_refuses_other_values(actual):
    assert close(actual, 28) is False


@given(st.floats(-1e6, 1e6), st.floats(-1, 1))
def test_close_allows_exactly_the_tolerance(expected, off):
    allowed = 1e-6 + 1e-4 * abs(expected)
    assert close(expected + 0.9 * off * allowed, expected)
    assert not close(expected + (1.1 + abs(off)) * allowed, expected)


def test_html_says_in_words_what_it_says_in_color():
    class Text(HTMLParser):
        text = ""

        def handle_data(self, data: str) -> None:
            self.text += data

    for verdict, words in (
        (output_size(right), "✓ Output size: passed"),
        (output_size(stub), "· Output size: not attempted yet"),
    ):
        page = Text()
        page.feed(verdict._repr_html_())
        assert page.text.startswith(words)


def test_html_escapes_what_the_student_wrote():
    def raises_markup(pixels: int, kernel: int) -> int:
        raise ValueError("<script>alert(1)</script>")

    assert "<script>" not in output_size(raises_markup)._repr_html_()


def test_summary_counts_points():
    total = summary(output_size(right), output_size(stub), output_size(breaks))
    assert (total.earned, total.possible) == (2, 6)
    assert repr(total).splitlines()[-1] == "2 of 6 points"
    assert "2 of 6 points" in total._repr_html_()


def test_check_keeps_its_name_and_worth():
    assert (output_size.title, output_size.points, output_size.minutes) == ("Output size", 2, 5)
    assert output_size.__name__ == "output_size" and "reference check" in output_size.__doc__


@pytest.mark.parametrize("points, minutes", [(0, 5), (1.5, 5), (2, 0), (2, float("nan"))])
def test_exercise_refuses_impossible_worth(points, minutes):
    with pytest.raises(ValueError, match="points|minutes"):
        exercise(title="x", points=points, minutes=minutes)
