// Package simulator plays the customers of a web shop whose truth is known: who will still buy, how often, and what.
//
// A Simulator emits the events of all customers in order of arrival, as the JSON that the Segment and RudderStack
// libraries send, with what makes real streams hard: late events, exact duplicates, updates, cancellations and
// refunds of lines, of amounts and of whole orders. Models and pipelines are judged against Simulator.Truth.
//
// How buyers behave:
//
//   - They buy by the MBG/NBD model: a Poisson process whose weekly rate is gamma distributed over customers, and a
//     beta distributed chance to leave for good after each order, the first included. Seasons (hour, weekday, day
//     of the year) speed the process up and slow it down, with mean one.
//   - They have tastes: Dirichlet distributed shares of the categories around the shop's popularity. Some
//     categories have a month in which everyone wants more of them.
//   - They browse while they are buyers, and for some weeks after they left.
//
// Prospects and anonymous visitors only browse.
//
// The same Config gives the same bytes with any Go version and on any processor: random numbers come from PCG and
// the package does its own logarithms. It reads no clock and does no I/O. What a customer does does not depend on
// Config.End, so with a fixed Arrivals.Span a longer run only adds to a shorter one.
//
// Memory is about 250 bytes for each customer and does not grow with the number of events.
package simulator
