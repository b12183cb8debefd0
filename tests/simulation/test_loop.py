"""The simulated loop: time jumps, order is drawn, a halted process runs nothing."""

import asyncio

from trimtab.testing.simulation import Dice, Process, SeededLoop


def order(seed: int) -> list[int]:
    """In which order ten coroutines run that are ready at once."""
    loop, ran = SeededLoop(Dice(seed)), list[int]()

    async def one(number: int) -> None:
        ran.append(number)

    async def all_of_them() -> None:
        await asyncio.gather(*(one(number) for number in range(10)))

    loop.run_until_complete(all_of_them())
    loop.end()
    return ran


def test_what_is_ready_runs_in_an_order_drawn_from_the_seed() -> None:
    assert order(1) == order(1) != order(2)
    assert sorted(order(2)) == list(range(10))


def test_time_jumps_to_the_next_timer() -> None:
    loop = SeededLoop(Dice(0))
    loop.run_until_complete(asyncio.sleep(86_400))
    assert 86_400 <= loop.time() < 86_401
    loop.end()


def test_nothing_of_a_halted_process_runs_until_it_is_resumed() -> None:
    loop, said = SeededLoop(Dice(0)), list[str]()

    async def work() -> None:
        try:
            await asyncio.sleep(1)
            said.append("went on")
        finally:
            said.append("cleaned up")

    process = Process("p")
    loop.launch(process, work())
    loop.call_later(0.5, loop.halt, process)
    loop.run_until_complete(asyncio.sleep(5))
    assert said == []
    loop.resume(process)
    loop.run_until_complete(asyncio.sleep(5))
    assert said == ["went on", "cleaned up"]
    loop.end()
