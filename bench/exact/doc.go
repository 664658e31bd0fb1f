// Package exact holds the promise of the pipeline against chance: whatever happens to the events on their way, to the
// processes, to the brokers and to ClickHouse, final rows and dead letters are those of the oracle. Of customers with events
// later than allowed orders and money are compared alone.
//
// A seed is a world: a random history (bench/oracle) played into 1 to 8 partitions of a broker, members of the consumer
// group that run the real Runner, client and Task over it, a store that takes rows as ClickHouse does, and a plan of what
// goes wrong. The history comes keyed by customer, or scattered over topics that members key anew; sources stand still, and
// some are required and guarded: then what members tell of them is compared, too. It runs in a testing/synctest bubble: the
// broker is kfake behind a virtual network, and time passes at once, so that a seed with minutes of outages takes a
// fraction of a second.
//
//	make exact SEEDS=10000
//
// The last line counts over all worlds: events, records of the input, repeated and refused ones included; crashes, members
// that were killed; rebalances, partitions that a member was given, gave back or lost; outages, members that stood still and
// brokers, requests, answers and the database that failed; permutations, histories that came out of order; rows, in the
// database at the end; differences, worlds whose rows, dead letters or alerts are not those of the oracle. From 1,000 worlds
// on it is an error if any kind of world, mishap or step was never met.
//
// A member that is killed sends nothing more, while its connections stay open for as long as sessions last. One that is
// frozen neither sends nor hears; its own timers run on.
//
// What a seed cannot vary (kill -9, SIGSTOP, the real engine, Apache Kafka) is tested in cmd/zyklus.
package exact
