package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"zyklus/pipeline"
)

// Read returns the rows of some customers in a table that has a column customer_id, as they count now: of each key the
// greatest version, unless it withdraws the row. The order is none.
func (c *Client) Read(ctx context.Context, t *pipeline.Table, customers []string) (*pipeline.Rows, error) {
	return c.read(ctx, t, customers, "FINAL WHERE ", "")
}

// ReadStored returns the rows of some customers in a table as they are stored, by version: the one that counts now, those
// it has replaced as far as no merge has dropped them, and those that withdraw.
func (c *Client) ReadStored(ctx context.Context, t *pipeline.Table, customers []string) (*pipeline.Rows, error) {
	return c.read(ctx, t, customers, "WHERE ", " ORDER BY version")
}

func (c *Client) read(ctx context.Context, t *pipeline.Table, customers []string, before, after string) (*pipeline.Rows, error) {
	out := pipeline.NewRows(t)
	for len(customers) > 0 {
		n := fitting(customers)
		if err := c.readSome(ctx, out, customers[:n], before, after); err != nil {
			return nil, fmt.Errorf("read %s: %w", t.Name, err)
		}
		customers = customers[n:]
	}
	return out, nil
}

// maxIDs bounds the bytes of ids in one statement, whose length servers bound.
const maxIDs = 60 << 10

// fitting counts the first ids that fit one statement, at least one.
func fitting(ids []string) (n int) {
	for bytes := 0; n < len(ids) && (n == 0 || bytes+len(ids[n]) <= maxIDs); n++ {
		bytes += len(ids[n]) + 4
	}
	return n
}

func (c *Client) readSome(ctx context.Context, out *pipeline.Rows, customers []string, before, after string) (err error) {
	var columns, ids []string
	for i := range out.Table.Columns {
		columns = append(columns, readExpression(&out.Table.Columns[i]))
	}
	for _, id := range customers {
		ids = append(ids, literal(id))
	}
	rows, err := c.conn.Query(ctx, "SELECT "+strings.Join(columns, ", ")+" FROM "+c.table(out.Table.Name)+" "+
		before+"customer_id IN ("+strings.Join(ids, ", ")+")"+after)
	if err != nil {
		return c.explain(err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for dest := readInto(out.Table.Columns); rows.Next(); {
		if err := readRow(rows, dest, out); err != nil {
			return err
		}
	}
	return c.explain(rows.Err())
}

// Customers calls use for each customer that has a row of a partition.
func (c *Client) Customers(ctx context.Context, partition int32, use func(id string) error) error {
	var id string
	return c.rows(ctx, "SELECT customer_id FROM "+c.table("customers")+" FINAL WHERE partition = ?", []any{partition},
		[]any{&id}, func() error { return use(id) })
}

// readExpression turns a column into text, a floating-point or a whole number.
func readExpression(c *pipeline.Column) string {
	name := quote(c.Name)
	switch c.Type {
	case pipeline.TypeText, pipeline.TypeString:
		return "toString(" + name + ")"
	case pipeline.TypeNumber, pipeline.TypeInstant:
		return name
	default:
		return "toInt64(" + name + ")"
	}
}

// readInto returns where the values of a row are scanned: pointers to pointers, which are nil of NULL.
func readInto(columns []pipeline.Column) []any {
	dest := make([]any, len(columns))
	for i := range columns {
		switch columns[i].Type {
		case pipeline.TypeText, pipeline.TypeString:
			dest[i] = new(*string)
		case pipeline.TypeNumber:
			dest[i] = new(*float64)
		case pipeline.TypeInstant:
			dest[i] = new(*time.Time)
		default:
			dest[i] = new(*int64)
		}
	}
	return dest
}

// readRow appends the present row of an answer.
func readRow(rows driver.Rows, dest []any, out *pipeline.Rows) error {
	if err := rows.Scan(dest...); err != nil {
		return err
	}
	n := len(dest) - 2
	for _, d := range dest[:n] {
		appendRead(out, d)
	}
	out.End(**dest[n].(**int64), **dest[n+1].(**int64) != 0)
	return nil
}

// appendRead appends one value to the row.
func appendRead(out *pipeline.Rows, value any) {
	switch v := value.(type) {
	case **string:
		if *v != nil {
			out.String(**v)
			return
		}
	case **float64:
		if *v != nil {
			out.Float(**v)
			return
		}
	case **time.Time:
		if *v != nil {
			out.Int((*v).UnixMilli())
			return
		}
	case **int64:
		if *v != nil {
			out.Int(**v)
			return
		}
	}
	out.Null()
}
