"""The client: sends jobs, waits for their results, and prints them."""

import asyncio

from tasks import app, ask_weather, checksum, compute, greet, greet_all, who_am_i


async def main() -> None:
    async with app:
        job = await compute.enqueue(5)
        print(f"enqueued {job}")
        print(f"compute(5) = {await job.wait(timeout=20)}")

        # The same by id: another process, or the next day.
        found = await app.broker.get_job(job.id)
        print(f"looked up: {found.status}, result {found.result}")

        later = await compute.options(delay=0.5).enqueue(6)
        print(f"compute(6), delayed by half a second, is {later.status}")

        weather = await ask_weather.enqueue("Lisbon")
        print(await weather.wait(timeout=20))

        parent = await greet_all.enqueue(["Ada", "Grace", "Barbara"])
        for job_id in await parent.wait(timeout=20):
            child = await greet.get_job(job_id)
            assert child is not None
            print(f"a child said: {await child.wait(timeout=20)}")

        summed = await checksum.enqueue("a plain function, in a thread")
        print(f"checksum: {await summed.wait(timeout=20)}")

        told = await who_am_i.enqueue()
        for key, value in (await told.wait(timeout=20)).items():
            print(f"ctx[{key!r}] = {value}")

        print(f"compute(6) = {await later.wait(timeout=20)}")

        many = await app.enqueue_many(compute.job(n) for n in range(1000))
        print(f"sum of 1000 squares = {sum([await one.wait(timeout=20) for one in many])}")


asyncio.run(main())
