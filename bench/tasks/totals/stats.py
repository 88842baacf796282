def mean(numbers):
    if not numbers:
        return 0
    return sum(numbers) / len(numbers)


def median(numbers):
    ordered = sorted(numbers)
    return ordered[len(ordered) // 2]
