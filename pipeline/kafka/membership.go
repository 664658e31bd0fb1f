package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// How the members of a group come to their partitions.
const (
	ProtocolClassic  = "classic"  // one of the members divides them; every broker knows it
	ProtocolConsumer = "consumer" // the brokers divide them (KIP-848); Kafka 4.0 and later
)

// membership says how a group works and how long it waits for a process that has vanished: its partitions stand still so
// long. A static member is expected back; any other is given up soon, and others take over. By the protocol consumer the
// brokers say how long (group.consumer.session.timeout.ms).
func (o *Options) membership() (opts []kgo.Opt) {
	if o.InstanceID != "" {
		opts = append(opts, kgo.InstanceID(o.InstanceID))
	}
	switch {
	case o.GroupProtocol == ProtocolConsumer:
		return append(opts, kgo.ServerSideBalancer())
	case o.InstanceID != "":
		return append(opts, kgo.SessionTimeout(45*time.Second))
	default:
		return append(opts, kgo.SessionTimeout(10*time.Second), kgo.HeartbeatInterval(2*time.Second))
	}
}

// checkProtocol refuses a protocol that the brokers do not offer: the client library would go on with the classic one
// without a word.
func (o *Options) checkProtocol(ctx context.Context, cl *kgo.Client) error {
	if o.GroupProtocol != ProtocolConsumer {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	versions, err := kadm.NewClient(cl).ApiVersions(ctx)
	if err != nil {
		return o.explain(err)
	}
	for _, broker := range versions {
		if most, ok := broker.KeyMaxVersion(kmsg.ConsumerGroupHeartbeat.Int16()); broker.Err == nil && (!ok || most < 1) {
			return o.noProtocol(fmt.Errorf("broker %d is too old", broker.NodeID))
		}
	}
	// Brokers that know the request may be told not to offer it. They say so to a member that leaves without ever having
	// come, which changes nothing.
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Group, req.MemberID, req.MemberEpoch = o.Group, "zyklus-check", leaves
	resp, err := req.RequestWith(ctx, cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	switch {
	case err == nil, errors.Is(err, kerr.UnknownMemberID), errors.Is(err, kerr.GroupIDNotFound):
		return nil
	case errors.Is(err, kerr.UnsupportedVersion):
		return o.noProtocol(err)
	}
	return o.explain(err)
}

func (o *Options) noProtocol(err error) error {
	return fmt.Errorf("the brokers do not offer the group protocol %s of group %s: set kafka.group_protocol to %s, or bring them to Kafka 4.0 with the feature group.version: %w",
		ProtocolConsumer, o.Group, ProtocolClassic, lineError{err})
}

// Epochs of a member that leaves, in ConsumerGroupHeartbeat.
const (
	leaves       = -1
	leavesForNow = -2 // a static member: its partitions wait for it until its session ends
)

// leave ends the membership that a client has in a group; that of a static member only for now. The client is of no use as
// a consumer afterwards.
func (o *Options) leave(ctx context.Context, group string, cl *kgo.Client) error {
	member, _ := cl.GroupMetadata()
	err := cl.LeaveGroupContext(ctx)
	if o.GroupProtocol != ProtocolConsumer || o.InstanceID == "" || member == "" {
		return err
	}
	// franz-go v1.22.2 leaves without the instance id, which Kafka refuses. The restarted process would have to wait for the
	// session of the one before it.
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Group, req.MemberID, req.MemberEpoch, req.InstanceID = group, member, leavesForNow, &o.InstanceID
	resp, err := req.RequestWith(ctx, cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if errors.Is(err, kerr.UnknownMemberID) || errors.Is(err, kerr.GroupIDNotFound) {
		return nil // it never was one, or is none any more
	}
	return err
}

// confirmMember asks the group coordinator whether this process is a member of the current generation.
func (r *Runner) confirmMember(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	ask := r.heartbeat
	if r.o.GroupProtocol == ProtocolConsumer {
		ask = r.fetchAsMember
	}
	member, generation := r.group.GroupMetadata()
	code, err := ask(ctx, member, generation)
	if err != nil {
		return fmt.Errorf("ask group coordinator: %w", err)
	}
	if err := kerr.ErrorForCode(code); err != nil {
		return fmt.Errorf("group coordinator: %w", err)
	}
	return nil
}

// heartbeat is the question of the classic protocol.
func (r *Runner) heartbeat(ctx context.Context, member string, generation int32) (code int16, err error) {
	req := kmsg.NewPtrHeartbeatRequest()
	req.Group, req.MemberID, req.Generation = r.o.Group, member, generation
	if r.o.InstanceID != "" {
		req.InstanceID = &r.o.InstanceID
	}
	resp, err := req.RequestWith(ctx, r.group)
	if err != nil {
		return 0, err
	}
	return resp.ErrorCode, nil
}

// fetchAsMember is the question of the protocol consumer. There a heartbeat tells the coordinator what the member owns and
// takes its answer, so only the group client may send one. Offsets are fetched as a member only by one that is known, in
// its present epoch; no offset is asked for.
func (r *Runner) fetchAsMember(ctx context.Context, member string, epoch int32) (code int16, err error) {
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group, g.MemberID, g.MemberEpoch = r.o.Group, &member, epoch
	g.Topics = []kmsg.OffsetFetchRequestGroupTopic{}
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Groups = append(req.Groups, g)
	resp, err := req.RequestWith(ctx, r.group)
	if err != nil {
		return 0, err
	}
	if len(resp.Groups) != 1 {
		return 0, fmt.Errorf("%d answers", len(resp.Groups))
	}
	return resp.Groups[0].ErrorCode, nil
}

// apartBecause says in one line why the group cannot be joined, and what to do.
func (r *Runner) apartBecause(err error) error {
	switch {
	case errors.Is(err, kerr.UnreleasedInstanceID):
		return fmt.Errorf("instance id %s is held by another process, or by one that was killed: the brokers keep its place for group.consumer.session.timeout.ms; zyklus admin leave %[1]s ends it at once, and each process needs an id of its own: %w",
			r.o.InstanceID, err)
	case errors.Is(err, kerr.InconsistentGroupProtocol), r.o.GroupProtocol == ProtocolConsumer && errors.Is(err, kerr.GroupIDNotFound):
		return fmt.Errorf("group %s has members of another kafka.group_protocol than %s, and these brokers do not let them mix: stop those first: %w",
			r.o.Group, r.o.GroupProtocol, err)
	case r.o.ofConnection(err):
		return r.o.explain(err)
	}
	return err
}
