"""What a process of ours knows of itself: identity, log, files, clocks, threads, memory."""
