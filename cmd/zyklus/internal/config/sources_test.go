package config_test

import (
	"strings"
	"testing"
	"time"

	"zyklus/cmd/zyklus/internal/config"
)

const twoSources = `
sources:
  shop:
    topic: shop-events
    lateness: 1h
    stall_after: 30m
    stall_families: [orders=6h]
    required: true
  web: {skew: 1m}
source:
  lateness: 5m
  ignored_ids: [nobody]
`

func TestSeveralSources(t *testing.T) {
	env := []string{"ZYKLUS_SOURCES_WEB_KEY=other", "ZYKLUS_SOURCE_CLOCK=wall"}
	c, err := config.Load(inFile(t, twoSources), env, flags(t, "--set", "sources.shop.skew=2m", "--set", "sources.crm.topic=crm-events"))
	if err != nil {
		t.Fatal(err)
	}
	in := c.Inputs()
	if len(in) != 3 || in[0].Name != "crm" || in[1].Name != "shop" || in[2].Name != "web" || !c.Rekeyed() {
		t.Fatalf("inputs are %+v", in)
	}
	crm, shop, web := in[0], in[1], in[2]
	if crm.Topic != "crm-events" || shop.Topic != "shop-events" || web.Topic != "web" || web.Key != "other" || shop.Key != "customer" {
		t.Errorf("topics or keys are wrong: %+v", in)
	}
	if shop.Lateness != time.Hour || web.Lateness != 5*time.Minute || shop.Skew != 2*time.Minute || web.Skew != time.Minute || c.Lateness() != time.Hour {
		t.Errorf("durations are wrong: %+v", in)
	}
	if len(web.IgnoredIDs) != 1 || web.IgnoredIDs[0] != "nobody" || web.Required {
		t.Errorf("web does not have what sources have in common: %+v", web)
	}
	limits, err := shop.Stalls()
	if err != nil || limits[""] != 30*time.Minute || limits["orders"] != 6*time.Hour {
		t.Errorf("stall limits are %v (%v)", limits, err)
	}
}

func TestPrintedSourcesLoadAgain(t *testing.T) {
	c, err := config.Load(inFile(t, twoSources), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := c.Print(&text); err != nil {
		t.Fatal(err)
	}
	again, err := config.Load(inFile(t, text.String()), nil, nil)
	if err != nil {
		t.Fatalf("%v in\n%s", err, text.String())
	}
	for i, s := range again.Inputs() {
		if s.Name != c.Inputs()[i].Name || s.Topic != c.Inputs()[i].Topic || s.Lateness != c.Inputs()[i].Lateness {
			t.Errorf("%+v became %+v", c.Inputs()[i], s)
		}
	}
	if !strings.Contains(text.String(), "as source.lateness") {
		t.Errorf("nothing says that a setting comes from source:\n%s", text.String())
	}
}

func TestSourcesAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		"sources: {Shop-1: {topic: a}}":            `unknown key "sources.Shop-1"`,
		"sources: {a: {tpic: b}}":                  `unknown key "sources.a.tpic", did you mean sources.a.topic?`,
		"sources: {a: {topic: t}, b: {topic: t}}":  "sources.b.topic t is read by sources.a already",
		"source: {stall_families: [order=1h]}":     `"order" is no family of events, did you mean orders?`,
		"source: {stall_families: [orders]}":       `"orders": "" is not a duration`,
		"source: {required: true}":                 "source.required needs stall_after",
		"source: {format: mapping}":                "source.mapping goes with format: mapping",
		"source: {clock: events, stall_after: 1h}": "source.stall_after needs clock: wall",
		"source: {stall_after: 1s}":                "is not from 10s to 30d",
		"sources: []":                              "sources is a list",
	} {
		if _, err := config.Load(inFile(t, text), nil, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
}
