// Package models holds the statistical models of Zyklus as pure functions: no
// clock, no I/O, no state. Time enters as an argument, and the same arguments
// always give the same result.
//
//   - MBG (btyd.go, expected.go): the MBG/NBD model of repeat buying. From three
//     numbers of a customer it gives P(alive), P(active within a horizon), the
//     churn risk, the expected purchase days, and the instants at which these
//     cross a limit while nothing happens.
//   - ExpectedGap (cadence.go): the customer's mean gap between purchases,
//     shrunk to a prior.
//   - CategoryModel (category.go): the next best categories, time-decayed
//     personal weights shrunk to popularity.
//   - Artefact (artefact.go, parse.go): everything above that is fitted or
//     tuned, as one frozen, versioned unit. Version 0 is built in.
//
// A customer's purchase history is (x, tx, T): x repeat purchase days (days with
// a net order after the first such day; several orders of one day count once),
// tx the weeks from the first to the last of them, T the weeks from the first to
// now. x = 0 implies tx = 0. Formulas and published figures are cited from
// Batislam, Denizel, Filiztekin (2007) and Hoppe, Wagner (2007) for MBG/NBD, and
// from Fader, Hardie, Lee (2005) for BG/NBD.
package models
