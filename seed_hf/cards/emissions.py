"""Estimates what training emitted, from the hours and machines in its logs and the watts of such machines."""

import re


# Watts of one accelerator under load, from data sheets (the largest form of each); the first that a name contains.
ACCELERATOR_WATTS = {
    "V100": 300, "A100": 400, "H100": 700, "H200": 700, "B200": 1000, "L40": 300, "L4": 72, "T4": 70, "A10": 150,
    "A40": 300, "A6000": 300, "RTX 3090": 350, "RTX 4090": 450, "RTX 5090": 575,
}  # fmt: skip
# what codecarbon takes for processors that it does not know (`DEFAULT_POWER_PER_CORE`)
THREAD_WATTS = 4
# grams of CO2 equivalent per kWh: world average of 2023, Ember, Global Electricity Review 2024
WORLD_INTENSITY = 481


def machine_watts(machine: str | None, num_processes: int | None) -> float | None:
    r"""
    Estimates how many watts a machine draws, from its name in a training log.

    Args:
        machine (`str`, *optional*): Name of the machine, as [`~seed_hf.provenance.describe_machine`] writes it.
        num_processes (`int`, *optional*): Number of processes of the run: one for each accelerator, or each with the
            threads that the name states.

    Returns:
        `float`: Watts of all processes; `None` for a machine that is not in the table.

    Example:

    ```python
    >>> from seed_hf.cards.emissions import machine_watts
    >>> machine_watts("8 x NVIDIA A100-SXM4-40GB", 16), machine_watts("cpu x86_64, 1 thread", 2)
    (6400, 8)

    ```
    """
    if not machine or not num_processes:
        return None
    if threads := re.fullmatch(r"cpu .*, (\d+) threads?", machine):
        return num_processes * THREAD_WATTS * int(threads[1])
    watts = (watts for name, watts in ACCELERATOR_WATTS.items() if re.search(rf"\b{name}\b", machine))
    return next((num_processes * each for each in watts), None)


def estimate_emissions(runs: list[dict], power_watts: float | None, carbon_intensity: float | None) -> dict:
    r"""
    Says how long training took, and estimates what it emitted: hours x watts x carbon intensity.

    Args:
        runs (`list[dict]`): Training runs, as [`find_runs`] returns them.
        power_watts (`float`, *optional*): Watts of all machines together; by default those of [`machine_watts`].
        carbon_intensity (`float`, *optional*): Carbon intensity of the electricity, in grams of CO2 equivalent per
            kWh; by default `WORLD_INTENSITY`.

    Returns:
        `dict`: The `text` for the card, and the `metadata` for `co2_eq_emissions`, which is `None` where the logs have
        no hours or name machines of unknown power.

    Raises:
        ValueError: A number is negative, or `power_watts` is given for logs without hours.
    """
    given = {"power_watts": power_watts, "carbon_intensity": carbon_intensity}
    if negative := {name: value for name, value in given.items() if value is not None and value < 0}:
        raise ValueError(f"{negative} is negative; allowed: 0 or more.")
    timed = [run for run in runs if run["hours"] is not None]
    if not timed:
        if power_watts is not None:
            raise ValueError("`power_watts` was given, but no log in `training` has hours; allowed: logs that have.")
        return {"text": "The training logs do not say how long it took.", "metadata": None}
    machines = ", ".join(dict.fromkeys(run["machine"] or "an unnamed machine" for run in timed))
    took = f"{sum(run['hours'] for run in timed):.2f} hours on {machines}, from the training log."
    if untimed := [f"`{run['name']}`" for run in runs if run["hours"] is None]:
        took += f" Without {', '.join(untimed)}: no time in the log."
    own_watts = [machine_watts(run["machine"], run["num_processes"]) for run in timed]
    watts = own_watts if power_watts is None else [power_watts] * len(timed)
    if None in watts:
        return {"text": f"{took} Emissions are not estimated: what that machine draws is not known.", "metadata": None}
    intensity = WORLD_INTENSITY if carbon_intensity is None else carbon_intensity
    grams = sum(run["hours"] * power for run, power in zip(timed, watts, strict=True)) / 1000 * intensity
    source = (
        f"hours of the training log x {'/'.join(f'{power:g}' for power in dict.fromkeys(watts))} W "
        f"({'data sheets; a thread of a processor: 4 W' if power_watts is None else 'as the publisher says'}) "
        f"x {intensity:g} g CO2eq/kWh "
        f"({'world average of 2023, Ember' if carbon_intensity is None else 'as the publisher says'})"
    )
    metadata = {"emissions": round(grams, 3), "source": source, "training_type": "pre-training"}
    metadata["hardware_used"] = machines
    return {"text": f"{took} About {grams:,.1f} g CO2eq, an estimate: {source}.", "metadata": metadata}


__all__ = ["estimate_emissions", "machine_watts"]
