// Package kafka runs a pipeline.Task for every partition that a consumer group assigns to this process, and keeps
// what the Tasks know in Kafka. franz-go is used nowhere else.
//
// One partition has one session, which lasts from assignment to revocation and makes attempts. An attempt is one life
// of the partition's Task:
//
//	fence      a transactional client with the id group/topic/partition: the former owner can commit no more
//	restore    the partition of the changelog, from its start to the end it has after fencing
//	compare    a Sink that holds a later version than the Task ends the Runner: its changelog was lost, unless another
//	           process has added to it since. A Sink that is away is compared with later, before the first row: the Task
//	           runs meanwhile, and its checkpoints say since which version nobody could ask
//	run        records, timers and ticks; a checkpoint every second, then rows to the Sink
//	           ├── revoked or stopping: checkpoint, wait, end
//	           ├── lost: end without a word
//	           └── a transaction failed: its outcome is unknown, so drop the Task and make a new attempt
//
// What is not obvious:
//
//   - The position inside the state is the only truth. The group client knows who owns which partition and fetches
//     nothing; records come through a second client, the feed, which reads each partition from the exact offset that
//     its Task names. Committed group offsets are written for lag tools and never read; their metadata carries what the
//     members tell each other (note.go).
//   - An offset is one of a topic with a certain id, which stands beside it in the state. A topic that was created anew is
//     noticed at a start, by the watch, and on each fetch, however many records it holds. Where a topic cannot be read on
//     from the position, the Runner ends; what to do is somebody's choice (loss.go, Admin.AcceptLosses).
//   - A partition is caught up at an instant if everything that it held at that instant has been read. The Runner asks
//     for the end of all its partitions several times a second and notes when it asked: once a Task has read up to
//     that end, its clock may advance to the instant of the question, whatever came later. No guess about fetches in
//     flight, paused partitions, slow leaders or brokers that are away is needed: without an answer no clock moves.
//   - A new attempt is made only after the group coordinator has confirmed that this process is still a member.
//     Otherwise a process that was away for a while would fence the partition's new owner. How it is asked depends on the
//     group's protocol (membership.go).
//   - The feed's memory is used again once a record is processed: Tasks and Decoders keep no byte of it.
//   - A client's first transaction is not ended before the client knows its topics (awaitKnown): the library would
//     abort it and report success.
//   - The feed waits a moment for a session whose inbox is full and then pauses its partition, as pausing throws away
//     what was fetched already. Other partitions wait for a stuck one a tenth of a second, once.
//   - A Sink that is away stops nothing until too much waits for it, in the process or for one customer: then the partition
//     reads nothing and fires no timer until rows are taken (awaitSink). Its session goes on, and so does the group.
//   - Credentials and rights that the brokers refuse end the Runner, at the start and later: trying again would lock
//     accounts and hide the mistake. A broker that is away, or a certificate that does not hold, is waited for once the
//     Runner has started; at the start the former is, if Options.Waiting is set, and the latter is an error. Which is which,
//     and what is said about either, is decided in explain.
//   - Topics are created by EnsureTopics alone. What they should be stands once, in Options.wanted, for creating and
//     for checking.
//
// Goroutines: Run owns the loops of group, feed and watch and one goroutine per session; an attempt owns one that
// writes to the Sink. Each owner waits for what it started.
package kafka
