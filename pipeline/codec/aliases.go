package codec

import (
	"slices"

	"zyklus/pipeline"
)

// alias maps the name of a track call to the event type it stands for.
type alias struct {
	name string
	kind pipeline.Kind
}

// aliasTable lists every accepted name of a track call, one line each. Names are compared without regard to ASCII
// case. A name that is missing here makes a record a dead letter (unknown_event).
func aliasTable() []alias {
	return []alias{
		// Segment ecommerce v2: RudderStack, Jitsu and PostHog use the same names.
		{"Products Searched", pipeline.KindProductViewed},
		{"Product List Viewed", pipeline.KindProductViewed},
		{"Product List Filtered", pipeline.KindProductViewed},
		{"Product Clicked", pipeline.KindProductViewed},
		{"Product Viewed", pipeline.KindProductViewed},
		{"Product Added", pipeline.KindCartChanged},
		{"Product Removed", pipeline.KindCartChanged},
		{"Cart Viewed", pipeline.KindCartChanged},
		{"Checkout Started", pipeline.KindCheckoutStarted},
		{"Checkout Step Viewed", pipeline.KindCheckoutStarted},
		{"Checkout Step Completed", pipeline.KindCheckoutStarted},
		{"Payment Info Entered", pipeline.KindCheckoutStarted},
		{"Order Completed", pipeline.KindOrderCompleted},
		{"Order Updated", pipeline.KindOrderUpdated},
		{"Order Refunded", pipeline.KindOrderRefunded},
		{"Order Cancelled", pipeline.KindOrderCancelled},
		{"Order Canceled", pipeline.KindOrderCancelled},

		// Segment ecommerce v1, which older integrations still send.
		{"Viewed Product Category", pipeline.KindProductViewed},
		{"Viewed Product", pipeline.KindProductViewed},
		{"Added Product", pipeline.KindCartChanged},
		{"Removed Product", pipeline.KindCartChanged},
		{"Viewed Checkout Step", pipeline.KindCheckoutStarted},
		{"Completed Checkout Step", pipeline.KindCheckoutStarted},
		{"Completed Order", pipeline.KindOrderCompleted},
	}
}

// Aliases lists the accepted names of track calls, sorted, each as "name -> event type", for documentation.
func Aliases() []string {
	table := aliasTable()
	lines := make([]string, len(table))
	for i, a := range table {
		lines[i] = a.name + " -> " + a.kind.String()
	}
	slices.Sort(lines)
	return lines
}

// aliasIndex is the alias table by lower-case name.
func aliasIndex() map[string]pipeline.Kind {
	index := make(map[string]pipeline.Kind)
	for _, a := range aliasTable() {
		index[lowerASCII(a.name)] = a.kind
	}
	return index
}
