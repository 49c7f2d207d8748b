"""Statistics of ended runs: counted in the transaction that ends a run, summed up in the background.

Modules:
    alert_sums: The counters of alert rules.
    counts: `Counts`, the counters of a period, and the percentiles of their histograms.
    folding: Adds the ends of runs to the sums of their hours and days.
    reading: Reads the counters of a period.
"""
