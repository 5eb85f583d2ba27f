"""The pages of the collection: Browse, Indexing, Duplicates; and the page that is not there."""

from __future__ import annotations

import re
import time

from playwright.sync_api import Page, expect

from common.celery_app import BULK, MAINTENANCE, QUEUES
from common.duplicates import DuplicateBoard, DuplicateJob
from common.redis_client import key
from tests.browser.scenes.scene import scene, visit
from tests.browser.stage import ROOT, Stage
from workers.duplicates import run_duplicate_job

BROKEN = "The image is damaged and cannot be decoded: truncated"


# --- Browse --------------------------------------------------------------------------------------------------


@scene()
def browse_root(page: Page, stage: Stage) -> None:
    """All pictures."""
    visit(page, stage, "/browse")
    expect(page.locator(".gallery .tile").first).to_be_visible()


@scene()
def browse_folders(page: Page, stage: Stage) -> None:
    """A folder of folders."""
    visit(page, stage, f"/browse/{ROOT}/Patterns")
    expect(page.locator("#folder-cards li")).to_have_count(6)


@scene()
def browse_folder(page: Page, stage: Stage) -> None:
    """A folder of pictures."""
    visit(page, stage, f"/browse/{ROOT}/Places/Hills")
    expect(page.locator(".gallery .tile").first).to_be_visible()


@scene(overlay=True)
def browse_viewer(page: Page, stage: Stage) -> None:
    """A picture at full size."""
    browse_folder(page, stage)
    page.locator(".gallery .tile-open").nth(1).click()
    expect(page.locator("dialog.viewer .viewer-image")).to_have_attribute("src", re.compile("/original$"))


@scene("empty")
def browse_empty(page: Page, stage: Stage) -> None:
    """No pictures yet."""
    visit(page, stage, "/browse")
    expect(page.locator(".steps li")).to_have_count(3)


@scene("empty")
def browse_unindexed(page: Page, stage: Stage) -> None:
    """A folder of the library that is not indexed."""
    visit(page, stage, f"/browse/{ROOT}")
    expect(page.locator("main").get_by_role("link").first).to_be_visible()


@scene(provokes=True)
def browse_unknown(page: Page, stage: Stage) -> None:
    """A folder that is not there."""
    visit(page, stage, f"/browse/{ROOT}/Nowhere")
    expect(page.get_by_role("heading", level=1)).to_be_visible()


# --- Indexing ------------------------------------------------------------------------------------------------


def counted_job(stage: Stage, folder: str, done: int, total: int = 12_000, broken: int = 0) -> str:
    """A job that has been planned, and worked on for half a minute. Gives its id."""
    job_id = stage.jobs.create(folder).id
    plan = stage.jobs.start_plan(job_id)
    assert plan is not None
    stage.jobs.add(job_id, {"found": total + 480, "unchanged": 480, "total": total, "removed": 3})
    stage.jobs.finish_scan(job_id, plan)
    now = time.time()
    stage.redis.hset(key("job", job_id), "started_at", f"{now - 540}")
    stage.redis.rpush(key("job", job_id, "samples"), f"{now - 30:.3f} {max(0, done + broken - 1350)}")
    failed = {f"{folder}/IMG_{number:04}.jpg": BROKEN for number in range(broken)}
    stage.jobs.finish_batch(job_id, plan, "1", done=done, failed=failed, duplicates=12)
    return job_id


@scene()
def indexing_jobs(page: Page, stage: Stage) -> None:
    """Jobs in all states, with the errors of one."""
    failing = stage.jobs.create(f"{ROOT}/Lost").id
    stage.jobs.fail(failing, f"{ROOT}/Lost is not there. Is the disk mounted?")
    stage.jobs.control(counted_job(stage, f"{ROOT}/Sky", done=200), "cancelled")
    stage.journal().begin(stage.jobs.create(f"{ROOT}/From the phone"))
    stage.redis.delete(*stage.redis.scan_iter(match=key("job", stage.jobs.latest(1)[0].id + "*")))
    counted_job(stage, f"{ROOT}/Patterns", done=11_998, broken=2)
    stage.jobs.control(counted_job(stage, f"{ROOT}/Places/Cities", done=5100), "paused")
    counted_job(stage, ROOT, done=7300, broken=5)
    looking = stage.jobs.create(f"{ROOT}/2025")
    stage.jobs.start_plan(looking.id)
    stage.jobs.add(looking.id, {"found": 3120})
    stage.report(BULK, "busy", images_per_second=44.6, precision="int8", threads=2)
    visit(page, stage, "/folders")
    expect(page.locator("#jobs .job")).to_have_count(7)
    running = page.locator('#jobs .job[data-state="running"]')
    running.locator(".job-failures summary").click()
    expect(running.locator(".failures li")).to_have_count(5)


@scene()
def indexing_idle(page: Page, stage: Stage) -> None:
    """Pictures, and no jobs."""
    visit(page, stage, "/folders")
    expect(page.locator("#no-jobs")).to_be_visible()


@scene("empty")
def indexing_empty(page: Page, stage: Stage) -> None:
    """No pictures, no jobs, no workers."""
    visit(page, stage, "/folders")
    expect(page.locator("#no-jobs")).to_be_visible()
    expect(page.locator('[data-notice="worker-missing"]')).to_be_visible()


@scene()
def indexing_without_workers(page: Page, stage: Stage) -> None:
    """A job that waits for a worker."""
    stage.jobs.create(ROOT)
    stage.dismiss(*QUEUES)
    visit(page, stage, "/folders")
    expect(page.locator('[data-notice="worker-missing"]')).to_be_visible()


@scene(provokes=True)
def indexing_refused(page: Page, stage: Stage) -> None:
    """A folder that may not be indexed."""
    submit_folder(page, stage, "/etc")
    expect(page.get_by_role("alert")).to_contain_text("outside")


@scene("guarded", provokes=True)
def indexing_token(page: Page, stage: Stage) -> None:
    """The server asks for its token."""
    submit_folder(page, stage, ROOT)
    expect(page.locator(".token input")).to_be_visible()


def submit_folder(page: Page, stage: Stage, folder: str) -> None:
    """Asks for a folder to be indexed."""
    visit(page, stage, "/folders")
    page.locator(".index-form input").fill(folder)
    page.locator(".index-form button.primary").click()


@scene("broken", provokes=True)
def indexing_broken(page: Page, stage: Stage) -> None:
    """Redis is away."""
    visit(page, stage, "/folders")
    expect(page.locator('[data-notice="offline"]')).to_be_visible()


# --- Duplicates ----------------------------------------------------------------------------------------------


@scene()
def duplicates_start(page: Page, stage: Stage) -> None:
    """Nobody has looked yet."""
    visit(page, stage, "/duplicates")
    expect(page.locator("#none-yet")).to_be_visible()


@scene()
def duplicates_groups(page: Page, stage: Stage) -> None:
    """What was found."""
    run_duplicate_job(stage.runtime, stage.duplicates.create(0.99, None).id)
    visit(page, stage, "/duplicates")
    expect(page.locator("#groups .group").first).to_be_visible()


@scene()
def duplicates_running(page: Page, stage: Stage) -> None:
    """Pictures are being compared."""
    begin_duplicates(stage)
    visit(page, stage, "/duplicates")
    expect(page.locator("#comparing")).to_be_visible()


@scene()
def duplicates_without_worker(page: Page, stage: Stage) -> None:
    """Nobody does it."""
    stage.duplicates.create(0.97, None)
    stage.dismiss(MAINTENANCE)
    visit(page, stage, "/duplicates")
    expect(page.locator('[data-notice="worker-missing"]')).to_be_visible()


@scene()
def duplicates_failed(page: Page, stage: Stage) -> None:
    """It failed."""
    stage.duplicates.fail(begin_duplicates(stage), "The disk of the data folder is full.")
    visit(page, stage, "/duplicates")
    expect(page.locator("#failed")).to_be_visible()


def begin_duplicates(stage: Stage) -> DuplicateJob:
    """A search that has compared a third of the pictures."""
    # A board of its own: it tells of progress only now and then.
    board = DuplicateBoard(stage.redis, stage.settings.data_dir)
    job = board.begin(board.create(0.97, f"{ROOT}/Places").id)
    assert job is not None
    board.report(job, 4160, 12_480)
    return job


@scene("empty")
def duplicates_empty(page: Page, stage: Stage) -> None:
    """No pictures yet."""
    visit(page, stage, "/duplicates")
    expect(page.locator(".steps li")).to_have_count(3)


# --- any page ------------------------------------------------------------------------------------------------


@scene(provokes=True)
def error_not_found(page: Page, stage: Stage) -> None:
    """A page that is not there."""
    visit(page, stage, "/nothing")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
