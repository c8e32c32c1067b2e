//! Nobody is stranded, nobody overtakes but by class, nobody who has left is served, and a standing queue is shed.

use super::*;
use crate::runtime::endpoint::Slots;

#[cfg(not(plimsoll_loom))]
mod plain {
    use super::*;
    use crate::runtime::condition::Impediment;

    fn setup() -> (Arc<Queue>, Arc<EndpointLive>) {
        (Arc::new(Queue::new(Clock::start())), Arc::new(EndpointLive::new(&Arc::<Slots>::default(), 1)))
    }

    fn wish(capacity: u32, class: Class, tried: &[u32]) -> Wish<'_> {
        Wish { capacity, level: Level::Proven, class, tried, only: None, left: None }
    }

    fn join(queue: &Arc<Queue>, capacity: u32, tried: &[u32]) -> Joined<()> {
        Queue::join(queue, &wish(capacity, Class::Normal, tried), || None)
    }

    /// What a waiter has by now.
    fn has(waiting: &mut Waiting) -> Option<Result<Grant, Away>> {
        match Pin::new(waiting).poll(&mut Context::from_waker(std::task::Waker::noop())) {
            Poll::Ready(outcome) => Some(outcome),
            Poll::Pending => None,
        }
    }

    fn wait(queue: &Arc<Queue>) -> Waiting {
        wait_as(queue, Class::Normal)
    }

    fn wait_as(queue: &Arc<Queue>, class: Class) -> Waiting {
        match Queue::join(queue, &wish(100, class, &[]), || None::<()>) {
            Joined::Waiting(receiver) => receiver,
            other => panic!("should wait, got {other:?}"),
        }
    }

    #[test]
    fn a_freed_place_goes_to_the_first_waiter() {
        let (queue, endpoint) = setup();
        assert!(endpoint.try_acquire(Work::Request, 1));
        let (mut first, mut second) = (wait(&queue), wait(&queue));
        Queue::release(&queue, &endpoint, 1);
        let grant = has(&mut first).expect("the first has the place").expect("and is not sent away");
        assert!(has(&mut second).is_none());
        assert_eq!(endpoint.in_flight(), 1);
        drop(grant);
        assert!(has(&mut second).is_some_and(|grant| grant.is_ok()), "and then the second");
    }

    #[test]
    fn who_belongs_to_an_endpoint_waits_for_that_one_and_is_in_nobodys_way() {
        let slots = Arc::<Slots>::default();
        let [own, other] = [(); 2].map(|()| Arc::new(EndpointLive::new(&slots, 1)));
        let queue = Arc::new(Queue::new(Clock::start()));
        assert!(own.try_acquire(Work::Request, 1) && other.try_acquire(Work::Request, 1));
        let belongs = Wish { only: Some(own.slot()), ..wish(9, Class::Normal, &[]) };
        let Joined::Waiting(mut bound) = Queue::join(&queue, &belongs, || None::<()>) else {
            panic!("it waits")
        };
        Queue::release(&queue, &other, 1);
        assert!(has(&mut bound).is_none(), "it is not that one");
        // Whoever comes next has what it does not want, although it came first.
        let look = || other.try_acquire(Work::Request, 1).then_some(());
        assert!(matches!(Queue::join(&queue, &wish(9, Class::Normal, &[]), look), Joined::Place(())));
        // That its endpoint drains does not matter to it.
        own.condition.set(Impediment::Drained, true);
        Queue::release(&queue, &own, 1);
        assert!(has(&mut bound).is_some_and(|grant| grant.is_ok()));
    }

    #[test]
    fn who_waits_for_one_endpoint_is_sent_away_when_that_goes() {
        let (queue, endpoint) = setup();
        let belongs = Wish { only: Some(endpoint.slot()), ..wish(9, Class::Normal, &[]) };
        let Joined::Waiting(mut bound) = Queue::join(&queue, &belongs, || None::<()>) else {
            panic!("it waits")
        };
        let mut any = wait(&queue);
        queue.dismiss(|_, only| only == Some(endpoint.slot()));
        assert!(matches!(has(&mut bound), Some(Err(Away::Dismissed))) && has(&mut any).is_none());
    }

    #[test]
    fn a_waiter_that_gave_up_strands_nobody() {
        let (queue, endpoint) = setup();
        assert!(endpoint.try_acquire(Work::Request, 1));
        let first = wait(&queue);
        let mut second = wait(&queue);
        drop(first);
        Queue::release(&queue, &endpoint, 1);
        assert!(has(&mut second).is_some_and(|grant| grant.is_ok()));
        assert!(queue.is_empty());
        assert_eq!(endpoint.in_flight(), 0, "the received grant was dropped");
    }

    #[test]
    fn a_full_queue_makes_room_by_sweeping_those_who_gave_up() {
        let (queue, endpoint) = setup();
        assert!(endpoint.try_acquire(Work::Request, 1));
        let Joined::Waiting(first) = join(&queue, 1, &[]) else { panic!("there is room") };
        assert!(matches!(join(&queue, 1, &[]), Joined::Full));
        assert_eq!(queue.len(), 1);
        drop(first);
        assert_eq!(queue.len(), 0, "who has left is not counted");
        let joined = join(&queue, 1, &[]);
        assert!(matches!(joined, Joined::Waiting(_)));
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn an_endpoint_already_tried_is_left_to_the_next_waiter() {
        let (queue, endpoint) = setup();
        assert!(endpoint.try_acquire(Work::Request, 1));
        let Joined::Waiting(mut first) = join(&queue, 9, &[endpoint.slot()]) else { panic!("it waits") };
        let mut second = wait(&queue);
        Queue::release(&queue, &endpoint, 1);
        assert!(has(&mut first).is_none());
        assert!(has(&mut second).is_some_and(|grant| grant.is_ok()));
    }

    #[test]
    fn a_place_on_an_endpoint_that_may_not_be_used_goes_to_nobody_until_it_may() {
        let (queue, endpoint) = setup();
        assert!(endpoint.try_acquire(Work::Request, 1));
        let mut first = wait(&queue);
        endpoint.condition.set(Impediment::Ejected, true);
        Queue::release(&queue, &endpoint, 1);
        assert!(has(&mut first).is_none());
        endpoint.condition.set(Impediment::Ejected, false);
        Queue::serve(&queue, &endpoint, 1);
        assert!(has(&mut first).is_some_and(|grant| grant.is_ok()));
    }

    #[test]
    fn all_free_places_are_served_and_no_more() {
        let (queue, endpoint) = setup();
        let mut waiting: Vec<Waiting> = (0..5).map(|_| wait(&queue)).collect();
        Queue::serve(&queue, &endpoint, 3);
        let granted: Vec<_> = waiting.iter_mut().map(has).collect();
        assert_eq!(granted.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, true, false, false]);
    }

    #[test]
    fn those_sent_away_are_told_and_leave_nothing_behind() {
        let (queue, _endpoint) = setup();
        let (mut first, second) = (wait(&queue), wait(&queue));
        queue.dismiss(|level, _| level == Level::Open);
        assert_eq!(queue.len(), 2, "they do not wait for that");
        queue.dismiss(|level, _| level == Level::Proven);
        assert!(queue.is_empty());
        assert!(matches!(has(&mut first), Some(Err(Away::Dismissed))));
        drop((first, second));
        assert_eq!((queue.len(), queue.is_empty()), (0, true));
    }

    #[test]
    fn those_who_leave_a_long_line_do_not_pile_up_in_it() {
        let (queue, _endpoint) = setup();
        let mut waiting: Vec<Waiting> = (0..100).map(|_| wait(&queue)).collect();
        waiting.truncate(10);
        assert_eq!(queue.len(), 10);
        assert!(lock(&queue.lines).length() <= 20);
        drop(waiting);
        assert!(queue.is_empty());
    }
    #[test]
    fn higher_classes_are_served_first_and_each_in_its_order() {
        let (queue, endpoint) = setup();
        let classes = [Class::Low, Class::Normal, Class::High, Class::Normal, Class::High];
        let mut waiting: Vec<Waiting> = classes.iter().map(|class| wait_as(&queue, *class)).collect();
        let mut order = Vec::new();
        for _ in 0..classes.len() {
            Queue::serve(&queue, &endpoint, 1);
            let served = waiting.iter_mut().position(|one| has(one).is_some_and(|grant| grant.is_ok()));
            order.push(served.expect("somebody is served"));
        }
        assert_eq!(order, [2, 4, 1, 3, 0]);
    }

    #[test]
    fn a_newcomer_looks_for_a_place_itself_when_only_lower_classes_wait() {
        let (queue, _endpoint) = setup();
        let _normal = wait_as(&queue, Class::Normal);
        let look = |class| Queue::join(&queue, &wish(9, class, &[]), || Some(()));
        assert!(matches!(look(Class::Low), Joined::Waiting(_)));
        assert!(matches!(look(Class::Normal), Joined::Waiting(_)));
        assert!(matches!(look(Class::High), Joined::Place(())));
    }

    #[test]
    fn in_a_full_queue_the_newest_of_the_lowest_class_gives_way() {
        let (queue, _endpoint) = setup();
        let mut waiting = [Class::Normal, Class::Low, Class::Low].map(|class| wait_as(&queue, class));
        let full = |class| Queue::join(&queue, &wish(3, class, &[]), || None::<()>);
        assert!(matches!(full(Class::Low), Joined::Full));
        let Joined::Waiting(_one) = full(Class::Normal) else { panic!("it takes the place of a low one") };
        assert!(matches!(has(&mut waiting[2]), Some(Err(Away::Displaced))));
        let Joined::Waiting(_two) = full(Class::High) else { panic!("it takes the place of a low one") };
        assert!(matches!(has(&mut waiting[1]), Some(Err(Away::Displaced))));
        let Joined::Waiting(_three) = full(Class::High) else { panic!("it takes the place of a normal one") };
        assert!(has(&mut waiting[0]).is_none(), "the older of two normal ones stays");
        assert_eq!(queue.state().waiting, [2, 1, 0]);
        assert_eq!(queue.load(), 3);
    }

    async fn pass(millis: u64) {
        tokio::time::advance(Duration::from_millis(millis)).await;
    }

    const SHEDDING: shedding::Settings = shedding::Settings {
        target: Duration::from_millis(10),
        interval: Duration::from_millis(100),
        newest_first: false,
    };

    /// A queue with so many in line that has stood for longer than an interval.
    async fn standing(
        settings: shedding::Settings,
        waiters: usize,
    ) -> (Arc<Queue>, Arc<EndpointLive>, Vec<Waiting>) {
        let (queue, endpoint) = setup();
        queue.set_shedding(Some(settings));
        let first = wait(&queue);
        pass(50).await;
        let mut waiting = vec![first];
        waiting.extend((1..waiters).map(|_| wait(&queue)));
        // The interval in which it was empty is over, and then a whole one in which it never was.
        pass(60).await;
        drop(wait(&queue));
        pass(101).await;
        // This one is how it is noticed.
        waiting.push(wait(&queue));
        (queue, endpoint, waiting)
    }

    #[tokio::test(start_paused = true)]
    async fn a_standing_queue_sends_those_away_who_have_waited_for_twice_the_target() {
        let (queue, endpoint, mut waiting) = standing(SHEDDING, 3).await;
        assert!(waiting[..3].iter_mut().all(|one| matches!(has(one), Some(Err(Away::Shed)))));
        assert!(has(&mut waiting[3]).is_none());
        assert_eq!((queue.state().waiting, queue.load()), ([0, 1, 0], 1));
        let mut newcomer = wait(&queue);
        assert_eq!(queue.state().stands, [false, true, false]);
        assert_eq!(newcomer.patience, Some(Duration::from_millis(20)), "its own timer ends its wait by then");
        Queue::serve(&queue, &endpoint, 1);
        assert!(has(&mut waiting[3]).is_some_and(|grant| grant.is_ok()), "who has waited for less is served");
        assert!(has(&mut newcomer).is_some_and(|grant| grant.is_ok()), "as its place was given back at once");
        pass(101).await;
        assert_eq!(wait(&queue).patience, None, "it was empty, so it stands no more");
    }

    #[tokio::test(start_paused = true)]
    async fn while_a_queue_stands_the_newest_are_served_first_where_that_is_wanted() {
        for (newest_first, then) in [(false, [true, false, false]), (true, [false, false, true])] {
            let (queue, endpoint, waiting) =
                standing(shedding::Settings { newest_first, ..SHEDDING }, 2).await;
            let mut waiting: Vec<Waiting> = waiting.into_iter().skip(2).collect();
            waiting.extend([wait(&queue), wait(&queue)]);
            assert!(endpoint.try_acquire(Work::Request, 1));
            Queue::release(&queue, &endpoint, 1);
            let served: Vec<Option<Result<Grant, Away>>> = waiting.iter_mut().map(has).collect();
            assert_eq!(served.iter().map(Option::is_some).collect::<Vec<_>>(), then);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_settings_nobody_is_shed_however_long_the_wait() {
        let (queue, endpoint) = setup();
        let mut first = wait(&queue);
        pass(60_000).await;
        let mut second = wait(&queue);
        assert_eq!(second.patience, None);
        Queue::serve(&queue, &endpoint, 2);
        assert!(has(&mut first).is_some_and(|grant| grant.is_ok()));
        assert!(has(&mut second).is_some_and(|grant| grant.is_ok()));
    }

    #[tokio::test(start_paused = true)]
    async fn whose_deadline_cannot_be_met_does_not_wait() {
        let (queue, _endpoint) = setup();
        let until = |left| Queue::join(&queue, &Wish { left, ..wish(9, Class::Normal, &[]) }, || None::<()>);
        let in_millis = |millis| Some(Duration::from_millis(millis));
        let Joined::Waiting(_first) = until(in_millis(1)) else { panic!("nobody was in front") };
        pass(100).await;
        assert!(
            matches!(until(in_millis(99)), Joined::Hopeless),
            "who is in front has waited for longer already"
        );
        assert_eq!(queue.load(), 1);
        assert!(matches!(until(in_millis(200)), Joined::Waiting(_)));
        assert!(matches!(until(None), Joined::Waiting(_)));
    }
}

#[cfg(plimsoll_loom)]
mod models {
    use super::*;

    const WISH: Wish<'static> =
        Wish { capacity: 1, level: Level::Proven, class: Class::Normal, tried: &[], only: None, left: None };

    /// Whoever frees the only place while another joins: the newcomer has it, by its own look or by hand-over.
    #[test]
    fn loom_no_waiter_is_stranded_when_a_place_is_freed_while_it_joins() {
        loom::model(|| {
            let queue = Arc::new(Queue::new(Clock::start()));
            let endpoint = Arc::new(EndpointLive::new(&Arc::<Slots>::default(), 1));
            assert!(endpoint.try_acquire(Work::Request, 1));
            let releaser = {
                let (queue, endpoint) = (Arc::clone(&queue), Arc::clone(&endpoint));
                loom::thread::spawn(move || Queue::release(&queue, &endpoint, 1))
            };
            let look = || (endpoint.in_flight() < 1 && endpoint.try_acquire(Work::Request, 1)).then_some(());
            let joined = Queue::join(&queue, &WISH, look);
            releaser.join().expect("the releaser does not panic");
            match joined {
                Joined::Place(_) => {}
                Joined::Waiting(mut waiting) => {
                    let grant = waiting.grant.as_mut().map(oneshot::Receiver::try_recv);
                    assert!(matches!(grant, Some(Ok(Ok(_)))), "stranded");
                }
                Joined::Full | Joined::Hopeless => panic!("there was room"),
            }
        });
    }

    /// Whoever frees the only place while one of a higher class leaves: the other one has it.
    #[test]
    fn loom_no_waiter_is_stranded_when_a_place_is_freed_while_another_leaves() {
        loom::model(|| {
            let queue = Arc::new(Queue::new(Clock::start()));
            let endpoint = Arc::new(EndpointLive::new(&Arc::<Slots>::default(), 1));
            assert!(endpoint.try_acquire(Work::Request, 1));
            let join = |class| match Queue::join(&queue, &Wish { class, capacity: 2, ..WISH }, || None::<()>)
            {
                Joined::Waiting(waiting) => waiting,
                _ => panic!("there is room"),
            };
            let (high, mut low) = (join(Class::High), join(Class::Low));
            let releaser = {
                let (queue, endpoint) = (Arc::clone(&queue), Arc::clone(&endpoint));
                loom::thread::spawn(move || Queue::release(&queue, &endpoint, 1))
            };
            drop(high);
            releaser.join().expect("the releaser does not panic");
            let grant = low.grant.as_mut().map(oneshot::Receiver::try_recv);
            assert!(matches!(grant, Some(Ok(Ok(_)))), "stranded");
        });
    }
}
