"""What the host does while a GPU computes."""

from threading import Event, Thread

import pytest
import torch

from tests.generators.small_generators import make
from tokenizer.generators.sample import IndexSampler
from tokenizer.generators.sampling import Sampling
from tokenizer.interfaces import ImageBatch


@pytest.mark.gpu
def test_another_thread_pins_memory_while_graphs_are_recorded():
    generator, labels, stop, errors = make().cuda(), torch.tensor([0, 2]).cuda(), Event(), []

    def pin() -> None:
        size = 2**12
        try:
            while not stop.is_set():
                torch.empty(size).pin_memory()
                size += 2**12  # a new size is not served from stored blocks
        except RuntimeError as error:
            errors.append(error)

    expected = IndexSampler(generator, Sampling(), "eager")(labels)
    thread = Thread(target=pin)
    thread.start()
    try:
        drawn = [IndexSampler(generator, Sampling(), "graph")(labels) for _ in range(5)]
    finally:
        stop.set()
        thread.join()
    assert errors == []
    assert all(torch.equal(each, expected) for each in drawn)


@pytest.mark.gpu
def test_a_page_locked_batch_is_copied_without_waiting_for_the_gpu():
    images = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)
    batch = ImageBatch(images.pin_memory(), torch.tensor([0, 1]).pin_memory(), ["a", "b"])
    torch.zeros(1).cuda()
    torch.cuda.synchronize()
    torch.cuda._sleep(2 * 10**9)  # about a second
    copied = batch.to(torch.device("cuda"), non_blocking=True)
    assert not torch.cuda.current_stream().query()
    assert torch.equal(copied.images.cpu(), images)
