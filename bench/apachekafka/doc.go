// Package apachekafka starts a cluster of real Apache Kafka brokers for tests and benchmarks.
//
// Maven fetches Kafka once into the user's cache directory; Java runs it. Each broker is a process that is a controller
// as well, so that of three brokers any one may be killed: the other two are a quorum. Brokers keep their ports and
// their data when they are killed, stopped or frozen and started again. They die with the process that started them.
//
//	func TestSomething(t *testing.T) {
//		apachekafka.Need(t)
//		cluster, err := apachekafka.Start(ctx, apachekafka.Config{Brokers: 3, Dir: t.TempDir()})
//		…
//		defer cluster.Close()
//	}
package apachekafka
