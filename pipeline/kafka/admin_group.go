package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Member is one process in a group, whether it lives or its session has not ended yet.
type Member struct {
	Group    string             `json:"group"`
	ID       string             `json:"member_id"`
	Instance string             `json:"instance_id"` // of a static member; else empty
	Client   string             `json:"client_id"`
	Host     string             `json:"host"`
	Protocol string             `json:"protocol"`   // ProtocolClassic or ProtocolConsumer
	Owns     map[string][]int32 `json:"partitions"` // by topic
}

// Name is how people know the member.
func (m *Member) Name() string {
	name := m.Instance
	if name == "" {
		name = m.Client
	}
	return name + " at " + m.Host
}

// Groups are those that a process with the options is a member of.
func (o *Options) Groups() []string {
	if o.Stage != "" {
		return []string{o.Group}
	}
	return []string{o.Group, o.Group + "-" + lettersProjector, o.Group + "-" + stallsProjector}
}

// Members returns the members of a group, by name. A group that does not exist has none.
func (a *Admin) Members(ctx context.Context, group string) (members []Member, err error) {
	members, err = a.consumerMembers(ctx, group)
	if err != nil { // a group of the classic protocol, or brokers that know no other
		members, err = a.classicMembers(ctx, group)
	}
	if err != nil {
		return nil, fmt.Errorf("group %s: %w", group, a.o.deny(err))
	}
	slices.SortFunc(members, func(x, y Member) int {
		return strings.Compare(x.Name()+x.ID, y.Name()+y.ID)
	})
	return members, nil
}

func (a *Admin) consumerMembers(ctx context.Context, group string) (members []Member, err error) {
	req := kmsg.NewPtrConsumerGroupDescribeRequest()
	req.Groups = []string{group}
	resp, err := req.RequestWith(ctx, a.cl)
	switch {
	case err != nil:
		return nil, err
	case len(resp.Groups) != 1:
		return nil, fmt.Errorf("%d answers", len(resp.Groups))
	}
	g := &resp.Groups[0]
	if err := kerr.ErrorForCode(g.ErrorCode); err != nil {
		return nil, err
	}
	names, err := a.topicNames(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range g.Members {
		owns := kadm.TopicsSet{}
		for _, t := range m.Assignment.TopicPartitions {
			owns.Add(cmp.Or(t.Topic, names[t.TopicID], "?"), t.Partitions...)
		}
		members = append(members, newMember(group, ProtocolConsumer, m.MemberID, m.InstanceID, m.ClientID, m.ClientHost, owns))
	}
	return members, nil
}

// topicNames returns the names of the topics that members read, by id: the embedded broker tells ids alone.
func (a *Admin) topicNames(ctx context.Context) (map[[16]byte]string, error) {
	have, err := a.adm.ListTopics(ctx, a.o.Topic, a.o.DeadLetterTopic, a.o.OutputTopic)
	if err != nil {
		return nil, err
	}
	names := map[[16]byte]string{}
	for name, t := range have {
		names[t.ID] = name
	}
	return names, nil
}

func (a *Admin) classicMembers(ctx context.Context, group string) (members []Member, err error) {
	groups, err := a.adm.DescribeGroups(ctx, group)
	if err != nil {
		return nil, err
	}
	switch g := groups[group]; {
	case errors.Is(g.Err, kerr.GroupIDNotFound):
		return nil, nil
	case g.Err != nil:
		return nil, g.Err
	default:
		for _, m := range g.Members {
			owns := kadm.TopicsSet{}
			if assigned, ok := m.Assigned.AsConsumer(); ok {
				for _, t := range assigned.Topics {
					owns.Add(t.Topic, t.Partitions...)
				}
			}
			members = append(members, newMember(group, ProtocolClassic, m.MemberID, m.InstanceID, m.ClientID, m.ClientHost, owns))
		}
	}
	return members, nil
}

func newMember(group, protocol, id string, instance *string, client, host string, owns kadm.TopicsSet) Member {
	m := Member{Group: group, ID: id, Client: client, Host: strings.TrimPrefix(host, "/"), Protocol: protocol, Owns: map[string][]int32{}}
	if instance != nil {
		m.Instance = *instance
	}
	for _, t := range owns.Sorted() {
		m.Owns[t.Topic] = t.Partitions
	}
	return m
}

// Leave takes a member out of its group, so that others take its partitions over at once instead of after its session.
// A process that lives after all is fenced like any other that was thought dead, and comes back as a new member. One that
// has left by itself is no error.
func (a *Admin) Leave(ctx context.Context, m Member) error {
	ask := a.leaveClassic
	if m.Protocol == ProtocolConsumer {
		ask = a.leaveConsumer
	}
	code, err := ask(ctx, m)
	if err == nil {
		err = kerr.ErrorForCode(code)
	}
	switch {
	case err == nil, errors.Is(err, kerr.UnknownMemberID), errors.Is(err, kerr.GroupIDNotFound):
		return nil
	case errors.Is(err, kerr.FencedInstanceID):
		return fmt.Errorf("member %s of group %s has been replaced meanwhile by one with the same instance id: look again", m.Name(), m.Group)
	}
	return fmt.Errorf("take %s out of group %s: %w", m.Name(), m.Group, a.o.deny(err))
}

func (a *Admin) leaveClassic(ctx context.Context, m Member) (code int16, err error) {
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group = m.Group
	out := kmsg.NewLeaveGroupRequestMember()
	out.MemberID, out.Reason = m.ID, kmsg.StringPtr("zyklus admin leave")
	if m.Instance != "" {
		out.InstanceID = &m.Instance
	}
	req.Members = append(req.Members, out)
	resp, err := req.RequestWith(ctx, a.cl)
	switch {
	case err != nil:
		return 0, err
	case resp.ErrorCode != 0 || len(resp.Members) == 0:
		return resp.ErrorCode, nil
	}
	return resp.Members[0].ErrorCode, nil
}

// leaveConsumer says what the member itself would say. Requests of the classic protocol are not for it everywhere.
func (a *Admin) leaveConsumer(ctx context.Context, m Member) (code int16, err error) {
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Group, req.MemberID, req.MemberEpoch = m.Group, m.ID, leaves
	resp, err := req.RequestWith(ctx, a.cl)
	if err != nil {
		return 0, err
	}
	return resp.ErrorCode, nil
}
