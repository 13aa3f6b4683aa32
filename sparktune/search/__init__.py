"""Search: suggest functions of hyperopt's form ``suggest(new_ids, domain, trials, seed)``, in numpy."""
