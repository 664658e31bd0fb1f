// Package config reads the settings of a deployment and refuses wrong ones.
//
// A setting is one field of Config, declared once with its key, default and
// meaning. Its value comes from, later ones winning: the default; the YAML file;
// the environment variable ZYKLUS_SECTION_KEY; a flag, which is a flag of its own
// for a few settings and --set section.key=value for all.
//
// Load checks everything before it answers and reports all problems together, one
// a line, each with the place the value came from and what to write instead.
// Unknown keys and unknown ZYKLUS_ variables are problems: a misspelt setting that
// is silently ignored costs a day.
//
// Secrets print as [redacted] whatever prints them. The setting of each has a twin
// with _file behind its key (and _FILE behind its variable), which names a file that
// holds it.
package config
