package main

import (
	"cmp"
	"context"
	"slices"

	"zyklus/pipeline"
)

// heavyCustomer is a customer whose record is among the greatest.
type heavyCustomer struct {
	Customer  string `json:"customer_id"`
	Partition int32  `json:"partition"`
	Bytes     int    `json:"bytes"`
	Orders    int64  `json:"orders"`
	Open      int    `json:"open_events"`
}

// heaviest returns the n greatest customers by bytes and the n greatest by orders, greatest bytes first. The changelog
// may hold a customer many times, of which the last counts, so one partition after the other is kept in memory.
func (s *site) heaviest(ctx context.Context, n int) ([]heavyCustomer, error) {
	partitions, err := s.kafka.Partitions(ctx)
	if err != nil {
		return nil, err
	}
	var all []heavyCustomer
	for _, p := range partitions {
		weights := map[string]pipeline.Weight{}
		err := s.scan(ctx, []int32{p}, func(_ int32, key, value []byte) error {
			customer, err := pipeline.ChangelogKey(key)
			if err != nil || customer == nil {
				return err
			}
			w, err := pipeline.RecordWeight(value)
			weights[string(customer)] = w
			return err
		})
		if err != nil {
			return nil, err
		}
		for id, w := range weights {
			all = append(all, heavyCustomer{Customer: id, Partition: p, Bytes: w.Bytes, Orders: w.Orders, Open: w.Open})
		}
		all = greatest(all, n)
	}
	return all, nil
}

// greatest keeps the n greatest by bytes and the n greatest by orders; equals by id.
func greatest(all []heavyCustomer, n int) []heavyCustomer {
	byOrders := func(a, b heavyCustomer) int {
		return cmp.Or(cmp.Compare(b.Orders, a.Orders), cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Customer, b.Customer), cmp.Compare(a.Partition, b.Partition))
	}
	byBytes := func(a, b heavyCustomer) int { return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), byOrders(a, b)) }
	slices.SortFunc(all, byOrders)
	kept := slices.Clone(all[:min(n, len(all))])
	slices.SortFunc(all, byBytes)
	kept = append(kept, all[:min(n, len(all))]...)
	slices.SortFunc(kept, byBytes)
	return slices.Compact(kept)
}
