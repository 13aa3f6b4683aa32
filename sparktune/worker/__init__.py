"""What travels to a worker and what runs there: the objective, a trial's task, the way to the driver."""
