package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"zyklus/cmd/zyklus/internal/output"
	"zyklus/pipeline/kafka"
)

func leaveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "leave [INSTANCE…]", Short: "Give up instances that will not come back, or list the members",
		Long: `List the members of the deployment's groups and the partitions they own, or take members out.

The partitions of an instance that has vanished stand still until its session ends: 10 s, 45 s if it is a static member
(kafka.instance_id), for it is expected back; with kafka.group_protocol: consumer as long as the brokers say
(group.consumer.session.timeout.ms, 45 s). If it will not come back, or has to come back sooner than the brokers let its
instance id go, this ends its sessions in all groups at once.

  zyklus admin leave                   tells who is a member and changes nothing
  zyklus admin leave zyklus-2          tells what would be done: INSTANCE is an instance id, or a member id of the list
  zyklus admin leave zyklus-2 --yes    takes it out; the others take its partitions over within seconds

No event is lost or doubled if the instance lives after all: it is fenced, drops what it has not committed, and comes back
as a new member. So this is for instances that are gone, not for stopping those that run.`,
		Example: "  zyklus admin leave --config zyklus.yaml -o json | jq '.members[] | {instance_id, partitions}'\n  zyklus admin leave zyklus-2 --config zyklus.yaml --yes",
	}
	confirmed := cmd.Flags().Bool("yes", false, "do it; without it the command only tells")
	open, format := siteCommand(cmd, brokerAlone), answering(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := open(cmd.Context())
		if err != nil {
			return err
		}
		defer s.close()
		return s.leave(cmd, *format, args, *confirmed)
	}
	return cmd
}

// leaving is what admin leave tells.
type leaving struct {
	Members []kafka.Member `json:"members"`
	Left    bool           `json:"left"` // whether they were taken out
	asked   bool
}

func (s *site) leave(cmd *cobra.Command, format output.Format, instances []string, confirmed bool) error {
	all, err := s.members(cmd.Context())
	if err != nil {
		return err
	}
	l := &leaving{Members: all, asked: len(instances) > 0}
	if l.asked {
		if l.Members, err = membersOf(all, instances); err != nil {
			return err
		}
	}
	if l.asked && confirmed {
		for _, m := range l.Members {
			if err := s.kafka.Leave(cmd.Context(), m); err != nil {
				return err
			}
		}
		l.Left = true
	}
	if err := format.Write(cmd.OutOrStdout(), l, l.text); err != nil || l.Left || !l.asked {
		return err
	}
	return usageError{errors.New("nothing was changed: repeat with --yes")}
}

// members returns those of all groups of the deployment.
func (s *site) members(ctx context.Context) (all []kafka.Member, err error) {
	all = []kafka.Member{}
	for _, o := range stages(s.cfg) {
		for _, group := range o.Groups() {
			list, err := s.kafka.Members(ctx, group)
			if err != nil {
				return nil, err
			}
			all = append(all, list...)
		}
	}
	return all, nil
}

// membersOf returns the members with the given instance or member ids. Each must be there.
func membersOf(all []kafka.Member, ids []string) (list []kafka.Member, err error) {
	for _, id := range ids {
		found := false
		for _, m := range all {
			if id != "" && (m.Instance == id || m.ID == id) {
				found = true
				list = append(list, m)
			}
		}
		if !found {
			return nil, fmt.Errorf("there is no member %q: it has left or its session has ended, or its name is another; see zyklus admin leave without arguments", id)
		}
	}
	return list, nil
}

func (l *leaving) text(w io.Writer) error {
	if len(l.Members) == 0 {
		_, err := fmt.Fprintln(w, "there are no members: no instance runs, and no session is left")
		return err
	}
	var rows [][]any
	for _, m := range l.Members {
		rows = append(rows, []any{m.Instance, m.Group, owned(m.Owns), m.Host, m.Protocol, m.ID})
	}
	err := output.Table(w, "INSTANCE\tGROUP\tPARTITIONS\tHOST\tPROTOCOL\tMEMBER", rows)
	switch {
	case l.Left:
		fmt.Fprintln(w, "taken out: the other members take the partitions over")
	case l.asked:
		fmt.Fprintln(w, "would be taken out of these groups")
	}
	return err
}

// owned names partitions: those of each topic, in ranges.
func owned(topics map[string][]int32) string {
	var parts []string
	for _, topic := range slices.Sorted(maps.Keys(topics)) {
		parts = append(parts, topic+" "+ranges(topics[topic]))
	}
	return strings.Join(parts, ", ")
}

// ranges writes sorted numbers as partitionList reads them.
func ranges(list []int32) string {
	var b strings.Builder
	for i := 0; i < len(list); {
		k := i
		for k+1 < len(list) && list[k+1] == list[k]+1 {
			k++
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(int(list[i])))
		if k > i {
			b.WriteString("-" + strconv.Itoa(int(list[k])))
		}
		i = k + 1
	}
	return b.String()
}
