package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"zyklus/pipeline"
	"zyklus/pipeline/codec"
)

// mappingExample is a whole mapping, for help and tests.
const mappingExample = `  mapping: shop                     # its name, as it stands in dead letters
  let:                              # names for what is needed more than once
    order: record.payload.order
  time: record.created_at           # RFC 3339, a date, or Unix time
  time_unit: ms                     # s, ms, us, ns; without it seconds or milliseconds
  customer: record.user.id          # the user id, else
  anonymous: record.visitor_id      # the id of a visitor
  id: record.event_id               # equal ids are one event
  currency: order.currency
  ignore:                           # tried first: such records are counted, not kept
    - when: record.test == true
  events:                           # the first whose condition holds
    - name: sale
      when: record.kind == "order" && order.status == "paid"
      type: order.completed
      order_id: order.id
      amount: order.total - order.tax.orValue(0)      # net; amount_minor for cents
      lines:
        from: order.items.filter(i, !has(i.gift))
        product: line.sku
        category: line.category
        quantity: line.quantity     # 1 where it is missing
        price: line.price           # or amount, of the whole line
    - when: record.kind == "order" && order.status == "refunded"
      type: order.refunded          # an amount, or lines, or neither for the whole order
      order_id: order.id
      amount: order.refund
    - when: record.kind in ["page", "screen"]
      type: touch.page
    - when: record.kind == "tick"   # says how far time has come; has no customer
      type: heartbeat
      time: record.until
`

func mappingCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "mapping", Short: "Try out how records become events",
		Long: `A mapping is a YAML file that says how JSON records of any shape become events. Sources that are known by
name have one built in (zyklus mapping list); zyklus mapping show prints it, to begin an own one with.

` + mappingExample + `
Expressions are CEL (https://cel.dev) over these variables:

  record     the record's JSON object            key       the record's key, a text
  line       in lines: the element of from       headers   the record's headers, texts by name
  and the names of let

A member that is missing is null, however deep; X.orValue(Y) is Y where X is missing, null or "". Numbers are exact
decimals: 0.1 + 0.2 is 0.3, money is rounded once, to the minor unit of its currency. There are == != < <= > >= in
&& || ! ?: + - * /, has(), size(), string(), double(), int(), and of texts startsWith, endsWith, contains, matches,
lowerAscii, upperAscii, trim, split, replace, substring; of lists exists, all, exists_one, map, filter.
An expression that has no value for a record makes it a dead letter with the name of the rule and the reason.

Event types: ` + strings.Join(eventTypes(), ", "),
	}
	cmd.AddCommand(mappingTestCommand(), mappingShowCommand(), mappingListCommand())
	group(cmd)
	return cmd
}

func eventTypes() (names []string) {
	for k := pipeline.KindInvalid + 1; k.Valid(); k++ {
		names = append(names, k.String())
	}
	return names
}

func mappingListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the sources that are known by name", Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
			fmt.Fprintln(w, "PRESET\tFORMAT\tREADS")
			for _, p := range codec.Presets() {
				fmt.Fprintf(w, "%s\t%s\t%s\n", p.Name, p.Format, p.About)
			}
			return w.Flush()
		},
	}
}

func mappingShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show PRESET", Short: "Print how a known source is read", Example: "  zyklus mapping show klaviyo > mapping.yaml",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return nil
			}
			return usageError{fmt.Errorf("%s takes one preset: zyklus mapping list shows them", cmd.CommandPath())}
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := codec.FindPreset(args[0])
			if err != nil {
				return usageError{err}
			}
			text := p.Text
			if text == nil {
				text = []byte(fmt.Sprintf("# %s: format %s needs no mapping. Its names of track calls:\n# %s\n",
					p.About, p.Format, strings.Join(codec.Aliases(), "\n# ")))
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
}

// mappingTest holds the flags of mapping test.
type mappingTest struct {
	mapping, preset, format, currency, output string
	whole, allow                              bool
}

func mappingTestCommand() *cobra.Command {
	var m mappingTest
	cmd := &cobra.Command{
		Use: "test SAMPLE...", Short: "Show what sample records become",
		Long: `Read sample records and show for each which event it becomes, or why it is refused or ignored. A sample is a
file, or - for standard input, with JSON objects: one a line, in an array, or one after the other. With --whole each
object is a whole record, {"key": "…", "headers": {"name": "…"}, "value": {…}}.

Amounts are shown in the currency of the order; whether there is a rate for it is not asked here. The exit code is 1 if
a record is refused.`,
		Example: `  zyklus mapping test --mapping shop.yaml samples.ndjson
  kcat -C -b broker:9092 -t shop -c 100 -e | zyklus mapping test --mapping shop.yaml -
  zyklus mapping test --preset ga4 --output json export.json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return nil
			}
			return usageError{fmt.Errorf("%s needs a sample: the path of a file with JSON objects, or - for standard input", cmd.CommandPath())}
		},
	}
	f := cmd.Flags()
	f.StringVar(&m.mapping, "mapping", "", "mapping: a file, or the name of a preset")
	f.StringVar(&m.preset, "preset", "", "source that is known by name: see zyklus mapping list")
	f.StringVar(&m.format, "format", "", "format that needs no mapping: segment or cloudevents")
	f.StringVar(&m.currency, "currency", "EUR", "reporting currency, which amounts without a currency are in")
	f.BoolVar(&m.whole, "whole", false, "samples are whole records with key, headers and value")
	f.BoolVar(&m.allow, "allow-refused", false, "exit with 0 though records are refused")
	f.StringVar(&m.output, "output", "text", "text, or json for an object a line")
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return m.run(cmd, args) }
	return cmd
}

func (m *mappingTest) run(cmd *cobra.Command, args []string) error {
	decoder, err := m.decoder()
	if err != nil {
		return usageError{err}
	}
	r := newReport(cmd.OutOrStdout(), m.currency)
	if r.json = m.output == "json"; !r.json && m.output != "text" {
		return usageError{fmt.Errorf("--output %q is neither text nor json", m.output)}
	}
	for _, path := range args {
		values, err := readSamples(path, cmd.InOrStdin())
		if err != nil {
			return err
		}
		for _, value := range values {
			record, err := m.record(value)
			if err != nil {
				return usageError{fmt.Errorf("%s: record %d: %w", path, r.count+1, err)}
			}
			var e pipeline.Event
			err = decoder.Decode(record, &e)
			if err := r.add(&e, err); err != nil {
				return err
			}
		}
	}
	if err := r.end(); err != nil {
		return err
	}
	if r.refused > 0 && !m.allow {
		return fmt.Errorf("%d of %d records are refused: --allow-refused lets them pass", r.refused, r.count)
	}
	return nil
}

// decoder returns the decoder that the flags choose.
func (m *mappingTest) decoder() (codec.Decoder, error) {
	chosen := 0
	for _, flag := range []string{m.mapping, m.preset, m.format} {
		if flag != "" {
			chosen++
		}
	}
	if chosen != 1 {
		return nil, errors.New("give one of --mapping FILE, --preset NAME and --format NAME")
	}
	options := codec.Options{Source: "sample", Currency: m.currency, Convert: true}
	format := m.format
	if name := m.mapping + m.preset; name != "" {
		open := openMapping
		if m.preset != "" {
			open = openPreset
		}
		var err error
		if format, options.Mapping, err = open(name); err != nil {
			return nil, err
		}
	}
	return codec.New(format, options)
}

// openMapping returns the mapping of a preset or of a file, and the format that goes with it.
func openMapping(name string) (format string, m *codec.Mapping, err error) {
	if _, err := codec.FindPreset(name); err == nil {
		return openPreset(name)
	}
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil, fmt.Errorf("mapping %q is neither a file nor a preset: zyklus mapping list shows those", name)
	}
	if err != nil {
		return "", nil, fmt.Errorf("read mapping: %w", err)
	}
	m, err = codec.ParseMapping(name, text)
	return codec.FormatMapping, m, err
}

// openPreset returns the format of a preset, and its mapping if the format needs one.
func openPreset(name string) (format string, m *codec.Mapping, err error) {
	p, err := codec.FindPreset(name)
	if err != nil || p.Text == nil {
		return p.Format, nil, err
	}
	m, err = codec.ParseMapping(name, p.Text)
	return p.Format, m, err
}

// maxSamples bounds a file of samples, which is held in memory.
const maxSamples = 256 << 20

// readSamples returns the records of a file. What is not JSON throughout is taken line by line, so that a broken record is
// shown as one that is refused.
func readSamples(path string, stdin io.Reader) ([][]byte, error) {
	in := stdin
	if path != "-" {
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, usageError{fmt.Errorf("%s: no such file: give the path of a file with JSON objects, or - for standard input", path)}
		}
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxSamples+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read samples: %w", err)
	case len(text) > maxSamples:
		return nil, usageError{fmt.Errorf("%s: more than %d MiB of samples: give fewer", path, maxSamples>>20)}
	}
	values, ok := jsonValues(text)
	if !ok {
		values = nil
		for _, line := range bytes.Split(text, []byte("\n")) {
			if line = bytes.TrimSpace(line); len(line) > 0 {
				values = append(values, line)
			}
		}
	}
	if len(values) == 0 {
		return nil, usageError{fmt.Errorf("%s: holds no record: want JSON objects", path)}
	}
	return values, nil
}

// jsonValues splits a text of JSON values; those of an array count one by one. ok is false if it is anything else.
func jsonValues(text []byte) (values [][]byte, ok bool) {
	for d := json.NewDecoder(bytes.NewReader(text)); ; {
		var value json.RawMessage
		err := d.Decode(&value)
		if errors.Is(err, io.EOF) {
			return values, true
		}
		if err != nil {
			return nil, false
		}
		var elements []json.RawMessage
		if value[0] != '[' || json.Unmarshal(value, &elements) != nil {
			values = append(values, value)
			continue
		}
		for _, e := range elements {
			values = append(values, e)
		}
	}
}

// record returns the record that a sample stands for.
func (m *mappingTest) record(value []byte) (*pipeline.Record, error) {
	if !m.whole {
		return &pipeline.Record{Value: value}, nil
	}
	var whole struct {
		Key     *string           `json:"key"`
		Headers map[string]string `json:"headers"`
		Value   json.RawMessage   `json:"value"`
	}
	d := json.NewDecoder(bytes.NewReader(value))
	d.DisallowUnknownFields()
	if err := d.Decode(&whole); err != nil {
		return nil, errors.New(`with --whole a sample is an object {"key": "…", "headers": {"name": "…"}, "value": {…}}`)
	}
	r := &pipeline.Record{Value: whole.Value}
	if whole.Key != nil {
		r.Key = []byte(*whole.Key)
	}
	for name, text := range whole.Headers {
		r.Headers = append(r.Headers, pipeline.Header{Key: name, Value: []byte(text)})
	}
	return r, nil
}
