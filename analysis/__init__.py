"""Tables, statistics and figures from the results of a study. Never imports torch.

load        store -> DataFrames, every run with the group it may be averaged in
validation/ which runs of a store are whole: only these take part
statistics  moments, intervals, pairs, variance components
tables      DataFrame -> DataFrame: the numbers, and the same as text
figures     DataFrame -> Figure
sections/   one topic per file: its tables, its figures, its words
    balancing, class_balance, pseudo_labels   algorithms that balance the classes, against FixMatch
    prototypes, labeled_images                families of label sets, contact sheets
    self_training                             rounds of self-training against their parents
    augmentation                              the rates that CTAugment learned
    tuning                                    candidates ranked by held-out images
    shortfall                                 levels reached; classes that keep a run below 90%
    comparison_settings, comparison, comparison_page   our runs beside published numbers
    headlines, headline_runs, overview        the headline numbers of all studies
claims/     catalog (what is claimed, by which rule it is tested), intervals, findings (statistics),
            published (numbers), cases (which runs), verdicts, claims (table and section)
page/       what a page is made of; the report in reading order; writing figures
published/  numbers from the literature, each with its source
"""
