// Package recordfile reads the records of files of any size: the rows of CSV, the lines of NDJSON, the values of JSON.
// Files may be compressed with gzip or zstd. Memory is bounded by the greatest record, whatever the file.
//
// A record that cannot be read is data: Next tells what is wrong with it and goes on behind it. Only a file that cannot
// be read any further ends with an error, and what was read before it is whole: the end of a file that was cut off is
// never taken for a record.
package recordfile
