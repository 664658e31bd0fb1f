// Package lifecycle reads lifecycle documents and decides phases by their rules.
//
// A lifecycle is a YAML document (Parse): phases, parameters, and rules in a
// listed subset of CEL over a Catalogue of features. The first rule that matches
// decides the phase; the last one is the fallback and always true. Compile
// type-checks the rules with cel-go and turns them into closures over a Source;
// a Lifecycle then answers two questions about a customer without allocating:
// Phase, the phase at an instant, and Next, the instant at which the phase
// changes if nothing happens.
//
// # The subset of CEL
//
//   - && || ! and parentheses; true and false; parameters that are booleans;
//   - features that are booleans;
//   - < <= > >= == != between numbers; == != and in [...] between a text feature
//     and constant texts;
//   - + - * / and the sign between numbers that do not change with time;
//   - a feature that changes with time only in < <= > >= with a constant, because
//     only then is the instant of its crossing known.
//
// A constant is a literal, a parameter (param.name), or arithmetic of these.
// There is one type of number: integer literals are read as doubles, so that
// 7 / 2 is 3.5. A number that is undefined (no order yet) makes every comparison
// with it false, != included. The result of 0/0 makes every comparison but !=
// false.
//
// # Time
//
// All instants are Unix milliseconds. Nothing here reads a clock. Instants after
// the year 9999 count as never.
package lifecycle
