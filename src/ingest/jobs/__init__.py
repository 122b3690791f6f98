"""What work is: the queues, the job types, and the publisher that rings for them."""
