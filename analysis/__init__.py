"""Tables, statistics and figures from the results of a study. Never imports torch.

load           store -> DataFrames, every run with the group it may be averaged in
statistics     moments, intervals, pairs, variance components
tables         DataFrame -> DataFrame: the numbers, and the same for human eyes
figures        DataFrame -> Figure
balancing      numbers, figures and page of the class balancing methods
self_training  the same of rounds of self-training
prototypes     the same of the choice of the labeled images
augmentation   the same of what CTAugment learned
choosing       candidates ranked by held-out images, without a look at test accuracies
claims         what the publications claim, and what the runs say to it
shortfall      when levels of accuracy were reached, which classes are in the way of 90%
comparison     ours beside published numbers, by the settings of the runs
comparison_page  its figures and page
parts          what a page is made of
report         writes all of it, in reading order
overview       the headline numbers of all studies beside the published ones
saving         writes the figures, several at a time
published/     numbers from the literature, each with its source
"""
