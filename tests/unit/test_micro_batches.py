from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

from benchmarks.system import wait_until
from common.errors import ImageSearchError, ModelError
from tests.fakes import FakeExtractor
from tests.unit.helpers import noise
from workers import micro_batches
from workers.micro_batches import MicroBatcher, size_of_pass
from workers.network.batched import plan_passes


class BlockedExtractor(FakeExtractor):
    """Waits in each pass until the test lets it go on."""

    def __init__(self, error: BaseException | None = None) -> None:
        super().__init__()
        self.entered = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.error = error

    def extract(self, pixels: np.ndarray) -> np.ndarray:
        self.entered.release()
        assert self.go.acquire(timeout=20)
        if self.error is not None:
            raise self.error
        return super().extract(pixels)

    def estimated_seconds(self, number: int) -> float:
        """A pass takes long, and a picture more in it hardly anything."""
        return 0.1 + 0.001 * number


def in_threads(call: Callable[[int], object], count: int) -> tuple[list[threading.Thread], dict[int, object]]:
    """Starts calls in threads; gives them, and the place for what they return or raise."""
    answers: dict[int, object] = {}

    def run(number: int) -> None:
        try:
            answers[number] = call(number)
        except Exception as error:  # noqa: BLE001 - handed to the test
            answers[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    return threads, answers


def behind_another(
    batcher: MicroBatcher, model: BlockedExtractor, call: Callable[[int], object], count: int, *, passes: int
) -> dict[int, object]:
    """Makes calls whose pictures all wait while the model works on another one; lets it make so many passes in all.

    Returns:
        What the calls return or raise.
    """
    first, _ = in_threads(lambda _: batcher.embed(lambda: picture(99)), 1)
    assert model.entered.acquire(timeout=20)
    threads, answers = in_threads(call, count)
    wait_for(batcher, count)
    for _ in range(passes):
        model.go.release()
    for thread in (*first, *threads):
        thread.join(20)
    return answers


def wait_for(batcher: MicroBatcher, waiting: int) -> None:
    """Until so many pictures wait for the next pass."""
    while len(batcher._waiting) < waiting:
        threading.Event().wait(0.002)


def picture(number: int) -> np.ndarray:
    return np.asarray(noise(16, 16, seed=number))


def test_what_waits_is_embedded_together_and_each_gets_its_own_feature() -> None:
    model = BlockedExtractor()
    batcher = MicroBatcher(model)
    answers = behind_another(batcher, model, lambda number: batcher.embed(lambda: picture(number)), 10, passes=2)
    assert model.calls == [1, 10]
    expected = FakeExtractor().extract(np.stack([picture(number) for number in range(10)]))
    for number in range(10):
        assert np.allclose(answers[number], expected[number])


def test_a_pass_has_at_most_the_limit() -> None:
    model = BlockedExtractor()
    batcher = MicroBatcher(model, limit=4)
    behind_another(batcher, model, lambda number: batcher.embed(lambda: picture(number)), 9, passes=4)
    # Five need two passes, in halves; three fit into one.
    assert model.calls == [1, 4, 2, 3]


def passes(waiting: int, seconds: dict[int, float]) -> list[int]:
    """The passes for those that wait, if nobody comes meanwhile, on a network that has these batch sizes."""
    plans = plan_passes(seconds)

    def estimated(number: int) -> float:
        return sum(seconds[size] for size in plans[number])

    sizes = []
    while waiting:
        sizes.append(size_of_pass(waiting, max(seconds), estimated))
        waiting -= sizes[-1]
    return sizes


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        # As fast one by one: half is left for the next pass, so that the network does not stand still.
        ({1: 0.2, 16: 3.2}, [8, 8]),
        # Half of them is a full batch, too.
        ({1: 0.030, 4: 0.088, 16: 0.340}, [8, 8]),
        # Sixteen at a time are a third faster, which is worth more than a gap.
        ({1: 0.65, 4: 1.43, 16: 4.4}, [16]),
    ],
)
def test_of_many_half_is_left_for_the_next_pass_unless_all_at_once_are_much_faster(
    seconds: dict[int, float], expected: list[int]
) -> None:
    assert passes(16, seconds) == expected


def test_of_more_than_two_passes_can_take_each_is_full() -> None:
    assert size_of_pass(32, 16, lambda number: 0.1 * number) == 16
    assert size_of_pass(100, 16, lambda number: 0.1 * number) == 16


@pytest.mark.parametrize("waiting", range(1, 33))
def test_a_pass_is_neither_empty_nor_too_large(waiting: int) -> None:
    random = np.random.default_rng(waiting)
    costs = np.cumsum(random.uniform(0.01, 0.2, 40))
    assert 1 <= size_of_pass(waiting, 16, lambda number: float(costs[number])) <= min(waiting, 16)


def test_an_idle_network_waits_for_a_picture_that_is_being_decoded() -> None:
    model = FakeExtractor()
    # So patient that a pass without the second picture would hang the test.
    batcher = MicroBatcher(model, patience=600)
    decoding, decoded = threading.Event(), threading.Event()

    def slowly() -> np.ndarray:
        decoding.set()
        assert decoded.wait(20)
        return picture(1)

    second, _ = in_threads(lambda _: batcher.embed(slowly), 1)
    assert decoding.wait(20)
    first, _ = in_threads(lambda _: batcher.embed(lambda: picture(0)), 1)
    wait_for(batcher, 1)
    decoded.set()
    for thread in (*first, *second):
        thread.join(20)
    assert model.calls == [2]


def test_clients_of_a_large_pass_that_search_again_share_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    # So long that a pass without all of them would hang the test.
    monkeypatch.setattr(micro_batches, "_BACK_WITHIN", 60_000)
    model = BlockedExtractor()
    batcher = MicroBatcher(model)

    def twice(number: int) -> None:
        for _ in range(2):
            batcher.embed(lambda: picture(number))

    behind_another(batcher, model, twice, 10, passes=3)
    assert model.calls == [1, 10, 10]


def test_after_a_large_pass_the_network_waits_for_a_moment_only() -> None:
    model = BlockedExtractor()
    batcher = MicroBatcher(model)
    behind_another(batcher, model, lambda number: batcher.embed(lambda: picture(number)), 10, passes=3)
    assert batcher.embed(lambda: picture(1)).shape == (8,)
    assert model.calls == [1, 10, 1]


def test_its_patience_ends() -> None:
    batcher = MicroBatcher(FakeExtractor(), patience=0.001)
    alone = batcher.embed(lambda: picture(0))
    decoding, decoded = threading.Event(), threading.Event()

    def slowly() -> np.ndarray:
        decoding.set()
        assert decoded.wait(20)
        return picture(1)

    slow, _ = in_threads(lambda _: batcher.embed(slowly), 1)
    assert decoding.wait(20)
    assert np.allclose(batcher.embed(lambda: picture(0)), alone)
    decoded.set()
    slow[0].join(20)


def test_nobody_waits_for_a_picture_that_cannot_be_decoded() -> None:
    # So patient that to wait for the broken one would hang the test; so would waiting for others when alone.
    batcher = MicroBatcher(FakeExtractor(), patience=600)

    def fail() -> np.ndarray:
        raise ImageSearchError("broken")

    with pytest.raises(ImageSearchError, match="broken"):
        batcher.embed(fail)
    assert batcher.embed(lambda: picture(1)).shape == (8,)


def test_an_error_reaches_all_of_the_pass_and_the_next_one_works() -> None:
    model = BlockedExtractor(ModelError("the weights are damaged"))
    batcher = MicroBatcher(model)
    answers = behind_another(batcher, model, lambda number: batcher.embed(lambda: picture(number)), 5, passes=2)
    assert [str(answers[number]) for number in range(5)] == ["the weights are damaged"] * 5
    model.error = None
    model.go.release()
    assert batcher.embed(lambda: picture(1)).shape == (8,)


class ForgetfulExtractor(FakeExtractor):
    """Loses a picture in its first pass."""

    def extract(self, pixels: np.ndarray) -> np.ndarray:
        features = super().extract(pixels)
        return features[1:] if len(self.calls) == 1 else features


def test_a_wrong_number_of_features_fails_the_pass_and_the_next_one_works() -> None:
    batcher = MicroBatcher(ForgetfulExtractor())
    with pytest.raises(ModelError, match="0 features for 1 pictures"):
        batcher.embed(lambda: picture(1))
    assert batcher.embed(lambda: picture(1)).shape == (8,)


def test_pictures_that_do_not_fit_together_fail_the_pass() -> None:
    model = BlockedExtractor()
    batcher = MicroBatcher(model)
    answers = behind_another(
        batcher, model, lambda number: batcher.embed(lambda: picture(number)[number:]), 2, passes=1
    )
    assert [type(answers[number]) for number in range(2)] == [ValueError, ValueError]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nobody_waits_for_a_thread_that_died() -> None:
    model = BlockedExtractor(SystemExit())
    batcher = MicroBatcher(model)
    first, answers = in_threads(lambda _: batcher.embed(lambda: picture(99)), 1)
    assert model.entered.acquire(timeout=20)
    second, others = in_threads(lambda _: batcher.embed(lambda: picture(1)), 1)
    wait_for(batcher, 1)
    dying = batcher._thread
    assert dying is not None
    model.go.release()
    for thread in (*first, *second, dying):
        thread.join(20)
    assert "ended unexpectedly" in str(answers[0])
    assert "ended unexpectedly" in str(others[0])
    model.error = None
    model.go.release()
    assert batcher.embed(lambda: picture(1)).shape == (8,)


class ColdExtractor(BlockedExtractor):
    """Has two more batch sizes to run; notes that as passes of no picture."""

    left = 2

    def warm_up_next(self) -> bool:
        self.extract(np.zeros((0, 16, 16, 3), np.uint8))
        self.left -= 1
        return self.left > 0


def wait_for_end_of_warming(batcher: MicroBatcher) -> None:
    wait_until(lambda: not batcher._is_warming, "it is warm", 20)


def test_the_network_is_warmed_up_while_nobody_searches() -> None:
    model = ColdExtractor()
    batcher = MicroBatcher(model)
    batcher.warm_up()
    for _ in range(3):
        model.go.release()
    wait_for_end_of_warming(batcher)
    batcher.embed(lambda: picture(1))
    assert model.calls == [0, 0, 1]


def test_searches_and_warming_up_take_turns() -> None:
    model = ColdExtractor()
    batcher = MicroBatcher(model, limit=1)
    batcher.warm_up()
    assert model.entered.acquire(timeout=20)
    threads, _ = in_threads(lambda number: batcher.embed(lambda: picture(number)), 3)
    wait_for(batcher, 3)
    for _ in range(5):
        model.go.release()
    for thread in threads:
        thread.join(20)
    assert model.calls == [0, 1, 0, 1, 1]


def test_a_network_that_cannot_be_warmed_up_goes_on_searching(caplog: pytest.LogCaptureFixture) -> None:
    model = ColdExtractor(MemoryError("no room for so many"))
    batcher = MicroBatcher(model)
    batcher.warm_up()
    model.go.release()
    wait_for_end_of_warming(batcher)
    assert "no room for so many" in caplog.text
    model.error = None
    model.go.release()
    assert batcher.embed(lambda: picture(1)).shape == (8,)


def test_closing_waits_for_the_pass_that_has_begun_and_ends_the_thread() -> None:
    model = ColdExtractor()
    batcher = MicroBatcher(model)
    batcher.warm_up()
    assert model.entered.acquire(timeout=20)
    batcher.close(0.01)
    assert batcher._thread is not None
    model.go.release()
    batcher.close(20)
    assert batcher._thread is None
    assert (model.calls, model.left) == ([0], 1)
